# ruff: noqa: E501, SIM905
"""What the test's tool tasks are worded with. Nothing of it stands in `training_lists`."""

from lmrun.demo.generate.lists import Lists, domains, operation
from lmrun.demo.generate.slots import wording

_DOMAINS = """
lookup_weather|weather_report|conditions_at # Report the weather conditions at a location|Gives present weather for some location # location/municipality:city # What's the weather in {0} today?|Give me a weather report for {0}|Should I take a coat in {0}?|Is it sunny in {0} at the moment? # the weather report:word
money_changer|swap_currency # Turns an amount of one currency into another currency|Works out how much money you get in a different currency # sum_in/cash:money currency_in/have_currency:currency currency_out/want_currency:currency # I have {0} {1}, how much is that in {2}?|Turn {0} {1} into {2}|Swap {0} {1} for {2} # the sum:money
compose_mail|dispatch_email # Deliver an email message|Sends somebody an email with some content # mailbox/addressee:email mail_text/letter:message # Drop {0} an email that reads {1}|Send {0} a mail with the words {1}|Shoot an email to {0}: {1} # -:
schedule_meeting|plan_meeting # Schedule a meeting in the calendar|Sets up a meeting # meeting_title/purpose:title meeting_date/scheduled_day:date meeting_time/begins_at:time # Schedule a meeting called {0} on {1} at {2}|Set up the meeting {0} for {1}, {2}|Plan a meeting named {0} on {1} starting {2} # the meeting id:code
wake_up_call|ring_alarm # Ring an alarm at the given time|Wakes the user at some time # ring_at/wake_time:time # I have to get up at {0}, set an alarm|Please ring at {0}|Make sure I am awake by {0} # -:
egg_timer|kitchen_timer # Timer for the kitchen that rings after some minutes|Runs a kitchen timer # cook_minutes/run_for:minutes # Set the kitchen timer to {0} minutes|My eggs need {0} minutes, start the timer|Let the timer run for {0} minutes # -:
interpret_text|say_in_language # Say a text in a foreign language|Puts a text into a foreign language # original/source_text:message foreign_language/spoken_language:language # Put {0} into {1}|I need {0} in {1}|Please translate {0} to {1} # the translated text:word
explain_term|glossary # Explains what a term means|Glossary of terms # glossary_term/expression:word # Explain the term {0}|What is meant by {0}?|I do not know the word {0}, explain it # the explanation:word
browse_web|online_search # Find web pages on the internet|Runs an internet search # search_query/searched_words:topic # Find web pages about {0}|Run an internet search for {0}|Check online for {0} # the first page:url
press_review|news_about # Recent newspaper articles|What newspapers write about a subject # news_subject/press_topic:topic # What do the newspapers write about {0}?|Get me recent articles about {0}|Find newspaper articles on {0} # the article:word
dinner_reservation|restaurant_booking # Make a reservation at a restaurant|Reserves seats for dinner # restaurant_name/venue:title party_size/diners:people dinner_time/seating_time:time # Reserve seats for {1} at {0} around {2}|We are {1} and want dinner at {0} at {2}|Make a reservation at {0} for {1} at {2} # the reservation code:code
flight_search|plane_tickets # Search for plane tickets|Looks for flights from one airport to another # fly_from/departing_from:origin fly_to/landing_in:goal flight_date/departing_on:date # I am looking for a flight from {0} to {1} on {2}|Search plane tickets from {0} to {1}, leaving on {2}|Fly me from {0} to {1} on {2} # the flight number:code
hotel_stay|reserve_hotel # Reserve a stay in a hotel|Finds a hotel to stay at # hotel_city/stay_in:city stay_nights/length_of_stay:days # Reserve a hotel in {0} for {1} nights|I will stay in {0} for {1} nights and need a hotel|Find me a hotel in {0} for {1} nights # the confirmation code:code
train_times|rail_timetable # Timetable of trains from one station to another|Departure times of trains # board_at/station_from:origin alight_at/station_to:goal # What trains run from {0} to {1}?|Look at the rail timetable from {0} to {1}|I want to take the train from {0} to {1} # the departure:time
travel_distance|measure_route # How many kilometers it is from one place to another|Measures the length of a route # route_start/point_one:origin route_end/point_two:goal # How long is the route from {0} to {1}?|Measure the distance between {0} and {1}|How many kilometers is it from {0} to {1}? # the length:distance
hail_cab|taxi_booking # Book a taxi ride|Gets a taxi to pick somebody up # pickup_place/collect_at:origin dropoff_place/drive_to:goal # Book a taxi from {0} to {1}|A taxi from {0} to {1}, please|Have a taxi take me from {0} to {1} # the taxi number:code
world_clock|clock_time_at # Shows what time it is in a city of the world|The time in a place # clock_city/zone_city:city # What's the time in {0}?|Show me the world clock for {0}|Do you know what time it is in {0}? # the clock time:time
share_quote|stock_ticker # Quote of a share at the stock exchange|What a share costs # share_symbol/listed_as:symbol # What does a share of {0} cost?|Give me a quote for the share {0}|How expensive is the stock {0}? # the quote:money
send_payment|remit_money # Pay somebody an amount of money|Remits money to a payee # paid_to/beneficiary:person pay_amount/paid_sum:money # Let {0} have {1} dollars|Remit {1} dollars to {0}|I owe {0} {1} dollars, pay it # the payment number:code
account_funds|show_balance # Shows the funds left on an account|Balance of a bank account # bank_account/iban:code # How much is left on account {0}?|Show me the funds of {0}|What is my balance on {0}? # the funds:money
order_tracker|purchase_status # Tells how far an order has come|Tracks the status of a purchase # purchase_id/order_reference:code # How far is order {0}?|What happened to my order {0}?|Tell me the status of purchase {0} # the order status:word
withdraw_order|revoke_order # Withdraw an order that was placed|Revokes a purchase # revoked_order/placed_order:code # Withdraw my order {0}|Please cancel the order {0}|I changed my mind about order {0}, withdraw it # -:
shop_basket|basket_put # Put goods into the basket of the shop|Adds goods to the shopping basket # goods/merchandise:noun units/basket_count:count # Put {1} units of {0} in the basket|I'd like {1} {0} in my shopping basket|Add {1} {0} to the basket # -:
hear_song|music_start # Start playing a piece of music|Plays music for the user # track_name/tune:title # Start the music {0}|I would love to hear {0} now|Let the music play: {0} # -:
loudness_control|speaker_volume # Controls the loudness of the speakers|Sets the volume of speakers # loudness_level/speaker_level:level # Turn the speakers to {0}|Bring the volume to {0}|Loudness {0}, please # -:
movie_facts|cinema_info # Facts about a movie|Looks a movie up # movie_title/film_name:title # Give me facts about the movie {0}|Who made the film {0}?|I want to know more about the movie {0} # the facts:word
lamp_switch|illuminate_room # Switches the lamp of a room on|Lights up a room # lit_room/lamp_room:noun # Light up the {0}|Switch on the lamp in the {0}|I cannot see anything in the {0}, switch on a lamp # -:
climate_control|warm_house # Controls how warm the house is|Brings the house to a temperature # warmth/wanted_temperature:degrees # Warm the house to {0} degrees|I would like it to be {0} degrees in the house|Bring the temperature in the house to {0} # -:
save_note|jot_down # Save a note for later|Jots something down # note_text/noted:message # Jot down {0}|Save a note that says {0}|Make a note: {0} # the note number:code
phone_book|number_of_person # Telephone number of a person|Finds a number in the phone book # listed_person/subscriber:person # What is the phone number of {0}?|Look in the phone book for {0}|I need to call {0}, what's the number? # the telephone number:phone
ring_up|call_number # Makes a telephone call|Rings a number up # dialled/call_target:phone # Ring up {0}|Please call {0} now|Get me {0} on the line # -:
show_file|cat_file # Show what a file contains|Displays the content of a file # shown_file/viewed_path:path # Show me what {0} contains|Display {0}|I want to see the content of {0} # the content:word
erase_file|drop_file # Erase a file for good|Deletes files # erased_file/doomed_path:path # Erase {0}|Please delete the file {0}|I do not need {0} any more, delete it # -:
letter_count|count_letters # Count the letters of a word|How many letters a word has # counted_word/spelling:word # How many letters does {0} have?|Count the letters in {0}|Tell me how many letters are in {0} # the number of letters:people
flip_text|mirror_word # Flip a text so that it reads backwards|Mirrors a word # flipped/mirror_text:word # Flip {0}|How does {0} read backwards?|Mirror the text {0} # the flipped text:word
random_between|lucky_number # Lucky number in a range|Picks some number in a range at random # range_start/lowest:whole range_end/highest:whole # Pick a lucky number in the range {0} to {1}|I need a random number from {0} up to {1}|Choose at random between {0} and {1} # the lucky number:whole
triangle_area|area_triangle # Area of a triangle from base and altitude|How much surface a triangle has # triangle_base/bottom:width altitude/triangle_height:height # How large is a triangle with base {0} and altitude {1}?|Compute the area of a triangle, base {0} and height {1}|Area of a triangle with a base of {0} and a height of {1}, please # the surface:number
root_finder|sq_root # Takes the square root|Gives the square root of a figure # radicand/rooted:whole # Give me the square root of {0}|What number squared is {0}?|Square root of {0}, please # the square root:number
mean_calculator|averager # Computes the mean of several numbers|The average of a series # series/measurements:numbers # Compute the average of {0}|What's the mean of {0}?|Give me the average for {0} # the mean:number
smallest_number|find_minimum # Smallest number of several|The minimum of a series # candidates/compared:numbers # Which number is the smallest: {0}?|Give me the minimum of {0}|Of {0}, which is the smallest? # the smallest number:whole
miles_converter|kilometres_in_miles # Kilometres turned into miles|Gives a distance in miles # metric_distance/kilometres:number # Give me {0} kilometres in miles|How far is {0} km in miles?|Turn {0} kilometers into miles # the miles:number
inhabitants|people_in_country # Inhabitants of a country|Tells how many people a country has # populated_country/homeland:country # How many inhabitants does {0} have?|Give me the number of people in {0}|How big is the population of {0}? # the number of people:whole
seat_of_government|capital_city # The capital of a country|Names a country's capital # governed_country/realm:country # Name the capital of {0}|What's the capital city of {0}?|Where does the government of {0} sit? # the capital city:city
person_record|user_profile # Profile of a user|Shows who a user is # profile_id/login:code # Show the profile of {0}|Which user is {0}?|Open the user profile {0} # the user:person
sign_up_user|enroll_person # Sign a new user up|Makes an account for a new user # new_user/enrolled:person signup_email/contact_mail:email # Sign {0} up with {1}|Make an account for {0}, email {1}|A new user: {0}, {1} # the new user id:code
file_complaint|support_case # File a complaint with the support team|Tells the support team about a problem # complaint/issue_text:message # File a complaint: {0}|Let the support team know: {0}|Tell the support team {0} # the case number:code
calorie_counter|energy_of_food # Energy of a meal in calories|Counts the calories of a meal # eaten/meal_eaten:food # How many calories are in {0}?|Count the calories of {0}|I ate {0}, how many calories is that? # the energy:whole
cookbook|dish_ideas # Ideas for dishes to cook|Looks for dishes in the cookbook # main_ingredient/cook_using:food # I have {0}, what can I cook?|Look in the cookbook for something with {0}|Give me an idea for a dish with {0} # the dish:title
pet_sitter|animal_care # Takes care of an animal|Looks after pets # cared_animal/beast:animal care_days/absence:days # Look after my {0} for {1} days|Take care of the {0} for {1} days|I am away for {1} days, who looks after my {0}? # -:
shrink_link|tiny_url # Makes a tiny link from a long one|Shrinks a web address # long_link/original_address:url # Shrink the link {0}|Make {0} tiny|I need a tiny link for {0} # the tiny link:url
"""

LISTS = Lists(
    verb_groups=(
        ("fold", "crease"),
        ("polish", "shine"),
        ("inspect_again", "recheck", "double-check"),
        ("postpone", "delay", "put off"),
        ("advertise", "promote"),
        ("decorate", "adorn", "dress up"),
        ("calibrate", "tune", "fine-tune"),
        ("donate", "give away", "hand over"),
        ("withdraw", "take back", "retract"),
        ("inflate", "blow up", "pump up"),
        ("memorize", "learn by heart", "commit to memory"),
        ("illustrate", "add pictures to"),
        ("sterilize", "disinfect"),
        ("audit", "go over", "review closely"),
        ("escort", "accompany", "walk with"),
        ("insure", "take out insurance for"),
    ),
    wordings={
        "person": wording(
            "full_name_of_person addressed_person human participant_name holder",
            "the human in question|person concerned|who is meant",
            "concerning {v}|together with {v}|meant for {v}",
        ),
        "city": wording(
            "located_city metropolis urban_area", "the metropolis|city where it happens",
            "located in {v}|over in {v}|somewhere in {v}",
        ),
        "country": wording(
            "sovereign_state located_country", "country where it happens|the sovereign state",
            "somewhere in {v}|inside {v}|within {v}",
        ),
        "origin": wording(
            "starting_city begins_in", "city where it begins|place of the beginning",
            "beginning in {v}|out of {v}",
        ),
        "goal": wording(
            "final_city ends_in", "city where it finishes|place of the finish",
            "finishing in {v}|toward {v}",
        ),
        "date": wording(
            "happens_on deadline planned_date", "when it is planned|the deadline|planned date",
            "planned for {v}|by {v}|scheduled on {v}",
        ),
        "time": wording(
            "at_what_hour moment_of_day", "moment of the day|hour at which it happens",
            "around {v}|exactly at {v}",
        ),
        "minutes": wording(
            "span_minutes takes_minutes", "time span in minutes|minutes needed",
            "taking {v} minutes|that takes {v} minutes",
        ),
        "hours": wording("span_hours takes_hours", "time span in hours", "taking {v} hours"),
        "days": wording("span_days takes_days", "time span in days", "taking {v} days"),
        "count": wording(
            "amount_of_items unit_count", "amount of items wanted|how often", "altogether {v}",
        ),
        "email": wording(
            "contact_email inbox_address", "email to contact|address of the inbox",
            "via the email {v}|with {v} as the email",
        ),
        "phone": wording(
            "contact_phone reachable_at", "phone to contact|number where one is reachable",
            "via the phone number {v}|reachable at {v}",
        ),
        "url": wording(
            "site_link located_at", "link of the site|where on the web", "located at {v}|via {v}",
        ),
        "path": wording(
            "stored_file kept_in", "file where it is stored", "stored in {v}|kept in {v}",
        ),
        "title": wording(
            "given_title displayed_name", "title given to it|name on display",
            "by the name of {v}|that is called {v}",
        ),
        "message": wording(
            "spoken_words remark_text", "words that are spoken|text of the remark",
            "with the words {v}|adding the remark {v}",
        ),
        "topic": wording(
            "treated_topic deals_with", "topic it treats|what it deals with",
            "dealing with {v}|on the subject of {v}",
        ),
        "money": wording(
            "cost_limit paid_amount", "amount that is paid|limit of the cost",
            "costing {v} dollars|for a price of {v}",
        ),
        "percent": wording(
            "percent_share part_in_percent", "part in percent", "to {v} percent|up to {v}%",
        ),
        "currency": wording(
            "paid_currency coin", "currency for paying", "paid in {v}|with {v} as currency",
        ),
        "language": wording(
            "written_language speech", "language it is written in", "written in {v}|spoken in {v}",
        ),
        "color": wording(
            "visible_color dye", "color that one sees|the dye", "all in {v}|that is {v}",
        ),
        "code": wording(
            "unique_code registered_as", "code that is unique|how it is registered",
            "registered as {v}|under the code {v}",
        ),
        "year": wording("calendar_year happened_in", "year when it was", "back in {v}|made in {v}"),
        "age": wording("reached_age lifetime_years", "age that was reached", "at the age of {v}"),
        "level": wording(
            "setting_level chosen_level", "level that is chosen", "up to level {v}|on level {v}",
        ),
        "numbers": wording(
            "given_numbers figures", "numbers that are given|the figures",
            "given the numbers {v}|based on {v}",
        ),
        "names": wording(
            "people_present crew_names", "everybody present|names of the crew",
            "in the presence of {v}|together with {v}",
        ),
        "tags": wording(
            "attached_labels marked_as", "labels that are attached", "marked as {v}|labeled {v}",
        ),
    },
    flags=wording(
        "is_confidential is_temporary is_mandatory is_anonymous",
        "a yes or no question|decides if it is on",
        "",
    ),
    enums={
        "noise_class": ("quiet", "normal", "loud"),
        "urgency_class": ("routine", "soon", "immediate"),
        "paper_size": ("a3", "a4", "letter"),
        "compass_point": ("north", "south", "east", "west"),
        "speed_class": ("slow", "medium", "quick"),
        "audience": ("children", "teenagers", "adults"),
    },
    description_frames=(
        "Can {verb} {the} {object}",
        "Is able to {verb} {the} {object}.",
        "Call this in order to {verb} {the} {object}",
        "Service that {verbs} {the} {object}",
        "Function for those who want to {verb} {the} {object}.",
        "Given its inputs, {verb} {the} {object}",
    ),
    request_frames=(
        "Kindly {c}.", "Go ahead and {c}.", "I was wondering if you could {c}.",
        "May I ask you to {c}?", "Do me a favor and {c}.", "Would it be possible to {c}?",
        "Next on my list: {c}.", "{C} right away.", "{C} as soon as you can.",
        "Good morning! Please {c}.", "Would you mind helping me {c}?", "My wish today is to {c}.",
        "If you can, {c}.", "Be so kind and {c}.",
    ),
    two_step_frames=(
        "Kindly {c} and then {d}.", "To begin with, {c}. Afterwards, {d}.", "{C}, next {d}.",
        "Go ahead and {c}; then {d}.", "I was wondering if you could {c} and then {d}.",
        "Two things: {c}, then {d}.", "Do me a favor: {c} and after that {d}.",
    ),
    domains=domains(_DOMAINS),
    operations=(
        operation(
            "+",
            "add add_numbers adder add_two",
            "Add two numbers|Compute the sum of two numbers|Calculate the sum of two integers"
            "|Adds two numbers together",
            "the result of adding {0} and {1}|{0} summed with {1}|{0} and {1} added up",
        ),
        operation(
            "-",
            "sub subtract subtract_numbers",
            "Subtract one number from another|Compute the difference of two numbers"
            "|Subtracts the second number from the first",
            "the result of subtracting {1} from {0}|{0} with {1} subtracted",
        ),
        operation(
            "*",
            "mul multiply multiply_numbers mult",
            "Multiply two numbers|Calculate the product of two numbers"
            "|Compute the product of two numbers|Multiplies two numbers",
            "the result of multiplying {0} and {1}|{0} multiplied with {1}",
        ),
        operation(
            "/",
            "div divide divide_numbers",
            "Divide one number by another|Compute the quotient of two numbers"
            "|Divides the first number by the second",
            "the result of dividing {0} by {1}|{0} split by {1}",
        ),
    ),
    operand_names=(
        ("a", "b"), ("num_a", "num_b"), ("lhs", "rhs"), ("first_number", "second_number"),
        ("operand1", "operand2"),
    ),
    operand_descriptions=(
        ("A number", "A number"), ("the first number", "the second number"),
        ("First operand", "Second operand"), ("number a", "number b"),
    ),
    expression_frames=(
        "Compute {e}", "Compute {e}.", "Give me the value of {e}.", "What would {e} be?",
        "Tell me {e}.", "Could you figure out {e}?", "I would like to know {e}.",
        "Let me know what {e} is.",
    ),
    lookups=tuple(
        "work_email:email office_phone:phone member_code:code birthplace:city wedding_day:date"
        " shoe_color:color native_language:language neighbor:person yearly_income:money"
        " passport_code:code graduation_year:year preferred_city:city manager:person"
        " blog_link:url".split()
    ),
    lookup_frames=(
        "retrieve the {a} of {v}", "tell me the {a} of {v}", "determine the {a} of {v}",
        "see what the {a} of {v} is", "retrieve {v}'s {a}",
    ),
    lookup_descriptions=(
        "Retrieves the {a} of some {o}", "Knows the {a} of every {o}", "{a} that a {o} has",
    ),
    lookup_names=("retrieve_{a}", "{a}_finder", "query_{a}", "{o}_to_{a}"),
    references=("the {a} that comes back", "the retrieved {a}", "the resulting {a}"),
    generic_phrases=(
        "having {w} {v}", "given {w} {v}", "whose {w} is {v}", "taking {v} for the {w}",
        "and its {w} should be {v}",
    ),
    generic_descriptions=(
        "gives the {w}", "{w} that is wanted", "{W} as chosen by the user", "its {w}",
    ),
    enum_phrases=("choosing {v} as {w}", "whose {w} is {v}", "on {v} {w}", "with {v} for the {w}"),
    flag_on=("that is {w}", "so that it is {w}"),
    flag_off=("that is not {w}", "so that it is not {w}"),
)  # fmt: skip


def names() -> frozenset[str]:
    """Names of functions and parameters that training may not draw."""
    lists = LISTS
    found: set[str] = set()
    for domain in lists.domains:
        found.update(domain.names)
        for parameter, _ in domain.parameters:
            found.update(parameter)
    for item in lists.operations:
        found.update(item.names)
    for pair in lists.operand_names:
        found.update(pair)
    for worded in lists.wordings.values():
        found.update(worded.names)
    found.update(lists.flags.names, lists.enums)
    return frozenset(found)
