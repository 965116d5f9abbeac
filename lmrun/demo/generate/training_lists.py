# ruff: noqa: E501, SIM905
"""What training tasks are worded with. Nothing of `heldout` may stand here; a test compares."""

from lmrun.demo.generate import slots, words
from lmrun.demo.generate.lists import Lists, domains, operation

_DOMAINS = """
get_weather|current_weather|weather_now|weather.fetch|getWeatherFor # Get the current weather of a city|Tells what the weather is like somewhere|Returns temperature and sky for a place # city/place/where:city # What is the weather like in {0}?|How is the weather in {0}?|Is it raining in {0}?|tell me the weather in {0}|How warm is it in {0} right now?|Do I need an umbrella in {0}? # the weather:word
get_forecast|weather_forecast|forecast_days # Weather forecast for the next days|Predicts the weather of a city # city/town:city days/num_days:days # give me the forecast of {0} for {1} days|How will the weather be in {0} over the next {1} days?|tell me the {1} day forecast for {0} # the forecast:word
convert_currency|exchange_money|currency_converter|fx_convert # Convert money from one currency to another|Exchange rate calculator|Changes an amount into another currency # amount/value/money:money from_currency/base/source_currency:currency to_currency/quote_currency/into_currency:currency # convert {0} {1} to {2}|How much is {0} {1} in {2}?|change {0} {1} into {2}|What are {0} {1} worth in {2}? # the converted amount:money
exchange_rate|get_rate|fx_rate # Current exchange rate between two currencies|The rate of one currency in another # base/from_code:currency quote/to_code:currency # What is the exchange rate from {0} to {1}?|tell me how many {1} I get for one {0}|get the rate of {0} against {1} # the exchange rate:number
send_email|email_send|mail_message|mailer.send # Send an email|Sends an electronic mail to an address|Writes and sends a mail # to/recipient/address_to:email body/message/text:message # send an email to {0} saying {1}|mail {0} the text {1}|write to {0}: {1}|tell {0} by email {1}|email {0} with the message {1} # -:
send_sms|text_phone|sms_send|textMessage # Send a text message to a phone|Sends an SMS to a number # phone/number/to_phone:phone text/message/content:message # text {0} saying {1}|send an SMS to {0}: {1}|send {1} to the number {0} # -:
create_event|new_event|calendar_insert|calendar.new_entry # Put an event into the calendar|Creates a calendar entry|Makes an appointment # title/name/what:title date/day/on_day:date time/at/start:time # put {0} in my calendar on {1} at {2}|create an event called {0} for {1} at {2}|make an appointment named {0} on {1} at {2} # -:
list_events|agenda_for|show_calendar # Lists the events of a day|What is in the calendar on a date # date/day:date # What is in my calendar on {0}?|show my events on {0}|Am I busy on {0}?|What do I have planned for {0}? # the events:word
set_alarm|wake_me|alarm_clock|alarms.create # Set an alarm clock|Rings at a time # time/at/when_to_ring:time # wake me up at {0}|set an alarm for {0}|let the clock ring at {0}|Can you wake me at {0}? # -:
start_timer|countdown|timer_start # Start a countdown timer|Counts down some minutes # minutes/duration/mins:minutes # start a timer for {0} minutes|count down {0} minutes|tell me when {0} minutes are over # -:
create_reminder|remember_for_me|reminder_create # Remind the user of something later|Stores a reminder # text/what/about_what:message time/when/at_time:time # remind me at {1} with the note {0}|make a reminder {0} for {1}|do not let me forget {0}, tell me at {1} # -:
translate_text|translation|to_language|translator.run # Translate a text into another language|Translates words and sentences # text/phrase/words:message language/target_language/into:language # translate {0} into {1}|How do you say {0} in {1}?|say {0} in {1}|What is {0} in {1}? # the translation:word
detect_language|which_language|language_of # Detect the language of a text|Tells which language something is written in # text/sample/sentence:message # What language is {0}?|find out which language {0} is in|detect the language of {0} # the language:language
define_word|dictionary|word_meaning|lookup_definition # Look up the meaning of a word|Dictionary entry of a word # word/term/entry:word # What does {0} mean?|define {0}|look up {0} in the dictionary|give me the meaning of {0} # the meaning:word
find_synonyms|thesaurus|similar_words # Words with a similar meaning|Lists synonyms of a word # word/term:word # What is another word for {0}?|give me synonyms of {0}|find words similar to {0} # a synonym:word
find_rhymes|rhymes_with # Words that rhyme|Finds rhymes # word/ending:word # What rhymes with {0}?|find a rhyme for {0}|give me words that rhyme with {0} # a rhyme:word
web_search|search_web|internet_search|google_it # Search the internet|Looks something up on the web # query/q/search_for:topic # search the web for {0}|look up {0} online|find pages about {0}|google {0}|What does the internet say about {0}? # the best page:url
news_search|latest_news|headlines|news.top # Latest news about a topic|Finds news articles # topic/about/keyword:topic # What is new about {0}?|show me news on {0}|get the latest headlines about {0}|Any news on {0}? # the headline:word
wiki_lookup|encyclopedia|wiki.summary # Summary of an encyclopedia article|Looks up a topic in an encyclopedia # topic/article/page:topic # tell me what the encyclopedia says about {0}|Who or what is {0}?|look up {0} in the encyclopedia # the summary:word
find_restaurant|restaurants_nearby|eat_out # Find restaurants|Searches places to eat # city/place:city cuisine/food/dish:food # find a restaurant in {0} that serves {1}|Where can I eat {1} in {0}?|I am in {0} and hungry for {1}, find me a place # the restaurant:title
book_table|reserve_table|table_reservation # Reserve a table in a restaurant|Books a place to dine # restaurant/where/name:title people/guests/party:people time/at:time # book a table for {1} at {0} at {2}|reserve {0} for {1} people at {2}|get us a table at {0}, {1} people, {2} # the booking number:code
search_flights|find_flight|flights|flight_finder # Search flights between two cities|Finds plane connections # origin/from_city/departure:origin destination/to_city/arrival:goal date/day:date # find flights from {0} to {1} on {2}|I want to fly from {0} to {1} on {2}.|get me a plane from {0} to {1} for {2}|Which flights go from {0} to {1} on {2}? # the flight:code
book_hotel|hotel_booking|reserve_room # Book a hotel room|Reserves a room in a city # city/place/town:city nights/days/num_nights:days # book a hotel in {0} for {1} nights|I need a room in {0} for {1} nights.|get me a hotel room in {0}, {1} nights # the booking code:code
train_schedule|next_train|trains_between # Trains between two stations|Shows the timetable of trains # from_station/start/origin:origin to_station/end/target:goal # When is the next train from {0} to {1}?|show trains from {0} to {1}|How do I get from {0} to {1} by rail? # the departure time:time
route_distance|distance_between|how_far # Distance between two places|Measures how far it is # start/from_place/place_a:origin end/to_place/place_b:goal # How far is it from {0} to {1}?|What is the distance from {0} to {1}?|tell me how many kilometers lie between {0} and {1} # the distance:distance
get_directions|navigate|route_planner # Directions from one place to another|Plans a route # start/origin:origin end/destination_city/to:goal # How do I get from {0} to {1}?|navigate from {0} to {1}|show me the way from {0} to {1} # the route:word
call_taxi|order_cab|ride_request # Call a taxi|Orders a ride # pickup/from_where/start:origin dropoff/to_where/end:goal # I need a cab from {0} to {1}.|get me a taxi from {0} to {1}|order a ride from {0} to {1} # the ride number:code
local_time|time_in|clock_of # Local time of a city|What time it is somewhere # city/place/where:city # What time is it in {0}?|tell me the time in {0}|How late is it in {0}? # the time:time
sunrise_time|sun_times # When the sun rises|Times of sunrise and sunset # city/place:city date/day:date # When does the sun rise in {0} on {1}?|tell me the sunrise in {0} on {1} # the sunrise:time
days_between|date_difference|count_days # Number of days between two dates|Difference of dates # start/from_date/first_date:date end/to_date/last_date:date # How many days are between {0} and {1}?|count the days from {0} to {1}|How long is it from {0} until {1}? # the number of days:days
stock_price|get_quote|share_price|market.quote # Price of a stock|Current quote of a share # symbol/ticker/share:symbol # What is the price of {0} stock?|How is {0} trading?|get the quote of {0}|How much does a share of {0} cost? # the price:money
buy_stock|trade_buy|purchase_shares # Buy shares|Places an order for stocks # symbol/ticker:symbol quantity/shares/number_of_shares:count # buy {1} shares of {0}|get me {1} {0} shares|order {1} stocks of {0} # the order number:code
bank_transfer|transfer_funds|wire_money # Transfer money to somebody|Moves money to another person # to/recipient/payee:person amount/sum/money:money # transfer {1} dollars to {0}|pay {0} {1} dollars|wire {1} to {0}|send {0} {1} euros # the transaction number:code
check_balance|account_balance|balance.get # Balance of an account|How much money an account holds # account/account_id/account_number:code # What is the balance of account {0}?|How much money is in {0}?|check the balance of {0} # the balance:money
track_order|order_status|where_is_order # Status of an order|Where an order is # order_id/order/number:code # Where is my order {0}?|What is the status of order {0}?|track order {0}|Has {0} been shipped yet? # the status:word
track_parcel|parcel_status|follow_package # Follow a parcel|Shows where a package is # tracking_number/parcel/code:code # Where is my package {0}?|track the parcel {0}|Has the parcel {0} arrived? # the location of the parcel:city
cancel_order|order_cancel|void_order # Cancel an order|Stops an order before it ships # order_id/order/id:code # cancel order {0}|I no longer want order {0}.|call off my order {0} # -:
refund_payment|give_refund|refunds.create # Pay money back|Refunds a payment # payment_id/payment/reference:code amount/sum_back:money # refund {1} dollars of payment {0}|give back {1} dollars for {0}|pay back {1} for payment {0} # -:
add_to_cart|put_in_cart|cart_insert # Put a product into the shopping cart|Adds an item to the basket # product/item/article:noun quantity/count/pieces:count # put {1} {0} into my cart|I want {1} of the {0} in my basket.|place {1} pieces of {0} in the cart # -:
search_products|product_finder|shop_search # Search the shop|Finds products to buy # query/what/product_name:noun max_price/price_limit/budget:money # find a {0} under {1} dollars|search the shop for a {0} for at most {1}|Is there a {0} that costs less than {1}? # the product:code
play_music|play_song|music_player.play # Play a song|Starts music # song/title/track:title # play {0}|put on the song {0}|I want to hear {0}.|start the track {0} # -:
set_volume|volume|audio.volume # Set the loudness|Changes how loud it is # level/volume_level/loudness:level # set the volume to {0}|make it {0} loud|turn the sound to {0} # -:
find_movie|movie_info|film_lookup # Information about a film|Looks up movies # title/name/film:title # tell me about the movie {0}|Who directed {0}?|find the film {0}|What is {0} about? # the director:person
recommend_book|book_tip|next_read # Recommend a book|Suggests something to read # topic/subject_matter/theme:topic # recommend a book about {0}|What should I read about {0}?|suggest reading on {0} # the book:title
turn_on_light|light_on|lights.enable # Switch a light on|Makes a room bright # room/where/which_room:noun # turn on the light in the {0}|It is too dark in the {0}.|switch on the {0} lamp # -:
set_thermostat|room_temperature|heating.set # Set the temperature of a room|Adjusts the heating # temperature/degrees/target_temperature:degrees # set the heating to {0} degrees|make it {0} degrees|heat the house to {0} degrees # -:
lock_door|secure_door # Lock a door|Locks doors of the house # door/which/door_name:noun # lock the {0} door|make sure the {0} door is locked|secure the {0} door # -:
create_task|todo_insert|new_todo|tasks.create # Write a task on the todo list|Creates a task # title/task/what:message # put {0} on my todo list|create a task {0}|note down as a task: {0} # the task number:code
finish_task|complete_task|mark_done # Mark a task as done|Completes a task # task_id/task/id:code # mark task {0} as done|I finished task {0}.|complete the task {0} # -:
create_note|note_down|notes.write # Write a note|Stores a note # text/content/note:message # take a note: {0}|write down {0}|note {0} # -:
find_contact|contact_lookup|address_book # Look somebody up in the address book|Finds contact details # name/person/who:person # What is the number of {0}?|find {0} in my contacts|look up {0} in the address book # the phone number:phone
phone_call|dial|make_call # Call somebody by phone|Dials a number # phone/number/callee:phone # call {0}|dial {0}|ring the number {0} # -:
read_file|open_document|file_contents|files.read # Read a file|Returns the text of a file # path/file/filename:path # read the file {0}|What is in {0}?|open {0} and show me the text|print the contents of {0} # the text:word
delete_file|remove_path|files.delete # Delete a file|Removes a file from disk # path/file/filename:path # delete {0}|remove the file {0}|get rid of {0} # -:
write_file|save_text|files.write # Write text to a file|Stores text in a file # path/file/filename:path text/content/data:message # write {1} to {0}|save {1} in the file {0}|store the text {1} as {0} # -:
copy_file|duplicate_file # Copy a file|Copies a file to another place # source/src/from_path:path target/dst/to_path:path # copy {0} to {1}|make a copy of {0} at {1}|duplicate {0} as {1} # -:
count_words|word_count|text_length # Count the words of a text|Number of words in a text # text/input/passage:message # How many words are in {0}?|count the words of {0}|How long is the text {0}? # the number of words:count
reverse_text|backwards|text.reverse # Reverse a text|Writes letters in opposite order # text/word/input:word # write {0} backwards|reverse the word {0}|What is {0} spelled backwards? # the reversed text:word
to_upper|capitalize_all|uppercase # Make all letters capitals|Upper case of a text # text/word/string:word # write {0} in capital letters|make {0} upper case|capitalize every letter of {0} # the text:word
random_number|pick_number|roll_between # Draw a random number|A random number between two limits # low/minimum/from_number:whole high/maximum_value/to_number:whole # pick a random number between {0} and {1}|give me any number from {0} to {1}|draw a number from {0} to {1} # the number:whole
roll_dice|throw_dice # Roll dice|Throws some dice # count/dice/how_many:people # roll {0} dice|throw {0} dice|Can you roll the dice {0} times? # the total:whole
calculate_bmi|bmi|body_mass # Body mass index|Computes the BMI # weight/kg/mass:weight height/meters/tall:height # What is my BMI with {0} kg and {1} m?|compute the body mass index for {0} kg at {1} meters|I weigh {0} kg and am {1} m tall, what is my BMI? # the body mass index:number
rectangle_area|area_of_rectangle|rect_area # Area of a rectangle|Computes the area of a rectangle from its sides # width/side_a/length_value:width height/side_b/breadth:height # What is the area of a rectangle {0} by {1}?|How big is a rectangle with sides {0} and {1}?|work out the area of a {0} by {1} rectangle # the area:number
circle_area|area_of_circle # Area of a circle|Computes the area of a circle # radius/r_value:number # What is the area of a circle with radius {0}?|find the area of a circle of radius {0} # the area:number
square_root|sqrt|root_of # Square root of a number|Finds the root of a number # number/x/value:whole # What is the square root of {0}?|take the root of {0}|find the root of {0} # the root:number
factorial|factorial_of # Factorial of a number|Multiplies all numbers up to n # n/number/value:small # What is the factorial of {0}?|compute {0} factorial|What is {0}!? # the factorial:whole
is_prime|prime_check|check_prime # Whether a number is prime|Prime number test # number/n/value:whole # Is {0} a prime number?|check whether {0} is prime|find out if {0} is prime # the answer:word
mean_value|average|mean_of # Average of some numbers|Mean of a list # numbers/values/data:numbers # What is the average of {0}?|find the mean of {0}|average the numbers {0} # the average:number
max_value|largest|biggest_of # Largest of some numbers|Maximum of a list # numbers/values/items:numbers # Which is the largest of {0}?|find the maximum of {0}|What is the biggest number in {0}? # the maximum:whole
sort_numbers|order_list|sort_values # Sort a list of numbers|Puts numbers in order # numbers/values/list_values:numbers # sort the numbers {0}|put {0} in order|order these: {0} # the sorted list:word
percent_of|percentage_of|take_percent # Percentage of a number|A part of an amount in percent # percent/rate/share:percent amount/number/base:whole # What is {0} percent of {1}?|How much is {0}% of {1}?|take {0} percent of {1} # the result:number
km_to_miles|kilometers_to_miles # Kilometers in miles|Converts a distance from km # kilometers/km/distance:number # How many miles are {0} km?|convert {0} kilometers to miles|What is {0} km in miles? # the distance in miles:number
to_fahrenheit|celsius_to_fahrenheit # Celsius in Fahrenheit|Converts a temperature # celsius/degrees/temperature:number # What is {0} degrees Celsius in Fahrenheit?|convert {0} Celsius to Fahrenheit # the temperature:number
population_of|count_inhabitants # Population of a country|How many people live somewhere # country/nation/land:country # How many people live in {0}?|What is the population of {0}?|tell me how many inhabitants {0} has # the population:whole
capital_of|get_capital # Capital city of a country|The capital of a nation # country/nation/state:country # What is the capital of {0}?|tell me the capital of {0}|Which city is the capital of {0}? # the capital:city
run_query|sql_query|database.query # Run a query on a database|Executes SQL # sql/statement/command:message # run the SQL {0}|execute {0} on the database|query the database with {0} # the result:word
get_user|user_info|find_user # Details of a user|Looks up a user account # user_id/user/uid:code # Who is user {0}?|show me the profile of user {0}|get the details of {0} # the name:person
create_user|register_user|users.create # Create a user account|Registers somebody # name/full_name/user_name:person email/mail/address:email # create an account for {0} with the email {1}|register {0} with the address {1}|sign up {0}, {1} # the user id:code
close_ticket|resolve_ticket # Close a support ticket|Marks a ticket as solved # ticket_id/ticket/id:code # close ticket {0}|the problem of ticket {0} is solved, close it|resolve {0} # -:
open_ticket|report_problem|support.create # Report a problem to support|Opens a support ticket # description/problem/text:message # open a ticket: {0}|report the problem {0}|tell support {0} # the ticket number:code
nutrition_info|calories_of|food_facts # Nutrition of a food|How many calories a food has # food/dish/item:food # How many calories does {0} have?|Is {0} healthy?|tell me the calories of {0} # the calories:whole
find_recipe|recipe_search|cook_with # Find a recipe|Searches cooking recipes # ingredient/food/with_what:food # find a recipe with {0}|What can I cook with {0}?|How do I prepare {0}? # the recipe:title
post_tweet|social_post|publish_post # Post to a social network|Publishes a short text # text/content/status:message # post {0}|publish the text {0} on my profile|share {0} with my followers # the post number:code
shorten_url|short_link # Make a link shorter|Creates a short link # url/link/address:url # shorten {0}|make a short link for {0}|give me a shorter version of {0} # the short link:url
take_screenshot|capture_page # Picture of a web page|Takes a screenshot of a site # url/page/site:url # take a screenshot of {0}|capture the page {0}|make a picture of {0} # the file:path
feed_pet|pet_feeder # Feed an animal|Gives food to a pet # animal/pet/which:animal food/meal/what:food # feed the {0} some {1}|give {1} to the {0}|The {0} is hungry, give it {1}. # -:
paint_room|color_wall # Paint the walls of a room|Colors a room # room/where/place:noun color/paint/tone:color # paint the {0} {1}|make the {0} {1}|give the {0} a {1} coat # -:
"""

LISTS = Lists(
    verb_groups=tuple(tuple(group) for group in words.VERB_GROUPS),
    wordings={name: kind.wording for name, kind in slots.KINDS.items()},
    flags=slots.FLAGS,
    enums=slots.ENUMS,
    description_frames=(
        "{Verb} {the} {object}",
        "{Verb} {the} {object}.",
        "{Verbs} {the} {object}",
        "{Verbs} {the} {object}.",
        "Use this to {verb} {the} {object}.",
        "Tool to {verb} {the} {object}",
        "A function that {verbs} {the} {object}.",
        "This tool {verbs} {the} {object}.",
        "Lets you {verb} {the} {object}",
        "{Verb} {the} {object} of the user.",
        "{Verbs} {the} {object} for the user",
        "{Verb} {the} {object} and return the result.",
        "Given the details, {verbs} {the} {object}.",
        "Helper to {verb} {the} {object}.",
        "API call to {verb} {the} {object}.",
    ),
    request_frames=(
        "{C}.", "{C}", "{c}", "{C}!", "Please {c}.", "please {c}", "{C}, please.", "Can you {c}?",
        "Could you {c}?", "Could you please {c}?", "Can you {c} for me?", "I need you to {c}.",
        "I want to {c}.", "I'd like to {c}.", "I would like you to {c}.", "Help me {c}.",
        "Would you {c}?", "Would you please {c}?", "I have to {c}.", "Let's {c}.", "Now {c}.",
        "Hi, {c}.", "Hello! Can you {c}?", "Hey, could you {c}?", "It is time to {c}.",
        "Your job is to {c}.", "Time to {c}.", "I want you to {c}.", "Quickly {c}.",
        "I am in a hurry, {c}.", "First thing today: {c}.", "You should {c}.", "Are you able to {c}?",
        "Thanks! Next, {c}.", "How about you {c}?", "It would be nice if you could {c}.",
        "Use a tool to {c}.", "My boss wants me to {c}.", "We need to {c}.", "Someone has to {c}.",
    ),
    two_step_frames=(
        "{C} and then {d}.", "{C}, then {d}.", "First {c}, then {d}.", "{C}. Then {d}.",
        "Please {c} and {d}.", "{C}, and after that {d}.", "Can you {c} and then {d}?",
        "I need you to {c} and afterwards {d}.", "{C}. After that, {d}.", "Could you {c} and {d}?",
        "Please {c}. Next, {d}.", "I want to {c} and then {d}.", "{C}; {d} when that is done.",
        "Start with this: {c}. When you have it, {d}.", "please {c} then {d}",
        "Hi! Would you {c} and then {d}?", "{C} and, once done, {d}.",
    ),
    domains=domains(_DOMAINS),
    operations=(
        operation(
            "+",
            "plus sum_two total_of addition sum_numbers get_sum calc_plus sumUp plus_numbers"
            " math.plus addition_of int_sum total sum_of_two sum",
            "Returns the sum of two values|Sum of both inputs|Addition of two values|Total of two"
            " figures|Adds one value to another|Plus operation|Sums up both operands"
            "|Finds the total of both arguments|Calculates a plus operation|Result of an addition"
            "|Adds the second value to the first|Adds up both values",
            "the sum of {0} and {1}|{0} plus {1}|the total of {0} and {1}|{0} and {1} together"
            "|{1} added to {0}|{0} increased by {1}",
        ),
        operation(
            "-",
            "minus difference_of take_away reduce_by get_difference calc_minus minus_numbers"
            " subtraction_of math.minus difference less_by int_minus",
            "Returns the difference of two values|Takes the second value from the first"
            "|Subtraction of two values|Minus operation|First value less the second"
            "|Difference of both inputs|Result of a subtraction|How much remains after taking away",
            "the difference of {0} and {1}|{0} minus {1}|{0} less {1}|{1} taken from {0}"
            "|{0} reduced by {1}|{0} subtract {1}|what is left when {1} is subtracted from {0}",
        ),
        operation(
            "*",
            "times product_of multiplication get_product calc_times times_numbers math.times"
            " product scale_by multiplied int_product product_two",
            "Returns the product of two values|Product of both inputs|Multiplication of two values"
            "|Times operation|First value times the second|Result of a multiplication"
            "|Multiplies one value by another|Multiplies both operands|Finds the product"
            " of both arguments",
            "the product of {0} and {1}|{0} times {1}|{0} multiplied by {1}|{0} lots of {1}",
        ),
        operation(
            "/",
            "divided_by quotient_of division get_quotient ratio_of over math.over calc_ratio"
            " quotient int_quotient split_by",
            "Returns the quotient of two values|First value divided by the second|Division of two"
            " values|Ratio of both inputs|Result of a division|Divides one value by another",
            "the quotient of {0} and {1}|{0} divided by {1}|{0} over {1}|the ratio of {0} to {1}",
        ),
        operation(
            "**",
            "raise_to to_the_power exponent_of get_power exponentiation math.raise",
            "Raises the first value to the second|Exponentiation of two values|Value to the power"
            " of another|Result of raising one value to another",
            "{0} to the power of {1}|{0} raised to {1}|the {1}th power of {0}",
        ),
        operation(
            "%",
            "remainder_of rest_after_division get_remainder math.rest remainder_two",
            "Remainder of a division|What is left after dividing|Rest when the first value is"
            " divided by the second",
            "the remainder of {0} divided by {1}|{0} modulo {1}|the rest of {0} divided by {1}",
        ),
    ),
    operand_names=(
        ("x", "y"), ("p", "q"), ("first", "second"), ("left", "right"), ("n1", "n2"),
        ("num1", "num2"), ("value1", "value2"), ("u", "v"), ("number_one", "number_two"),
        ("op1", "op2"), ("m", "n"), ("first_value", "second_value"), ("i", "j"), ("x1", "x2"),
        ("val_one", "val_two"), ("s", "t"), ("input1", "input2"), ("one", "two"),
    ),
    operand_descriptions=(
        ("first value", "second value"), ("left operand", "right operand"), ("one value", "another"
        " value"), ("the first", "the second"), ("a value", "a value"), ("value one", "value two"),
        ("number on the left", "number on the right"), ("start value", "value to use on it"),
    ),
    expression_frames=(
        "What is {e}?", "Work out {e}.", "Calculate {e}.", "Evaluate {e}", "How much is {e}?",
        "{e}", "{e} = ?", "What do I get for {e}?", "Please calculate {e}", "What's {e}?",
        "Can you work out {e}?", "I need the result of {e}.", "Solve {e}.", "calculate {e}",
        "Hi, what is {e}?", "Use the tools for {e}.", "please evaluate {e}", "What does {e} give?",
        "My homework says {e}. What is it?", "Do the math: {e}", "Result of {e}?",
        "Could you calculate {e} for me?", "{e}, please.", "Find {e}.", "Determine {e}.",
    ),
    lookups=tuple(
        "email_address:email phone_number:phone account_code:code customer_code:code home_town:city"
        " birthday:date age:age birth_year:year ticker_symbol:symbol shop_link:url file_path:path"
        " favorite_color:color mother_tongue:language body_weight:weight body_height:height"
        " number_of_friends:count salary:money pet_name:word nickname:word order_code:code"
        " tracking_code:code boss:person best_friend:person doctor:person teacher:person"
        " arrival_city:goal starting_time:time due_date:date shipping_price:money country:country"
        " favorite_food:food score:whole points:whole number_of_children:people"
        " brightness:level discount:percent travel_time:minutes postal_link:url".split()
    ),
    lookup_frames=(
        "find the {a} of {v}", "get the {a} of {v}", "look up the {a} of {v}", "fetch the {a} of {v}",
        "find out the {a} of {v}", "get {v}'s {a}", "look up {v}'s {a}", "check the {a} of {v}",
        "ask for the {a} of {v}", "read the {a} of {v}",
    ),
    lookup_descriptions=(
        "{a} of a {o}", "Finds the {a} of a {o}", "Returns the {a} of a {o}", "Looks up the {a} of"
        " the {o}", "Tells the {a} of some {o}", "The {a} belonging to a {o}.", "Get a {o}'s {a}.",
    ),
    lookup_names=(
        "get_{a}", "{a}_of", "find_{a}", "lookup_{a}", "{o}_{a}", "fetch_{a}", "{a}_of_{o}",
        "get_{o}_{a}", "read_{a}", "{a}_lookup",
    ),
    references=("that {a}", "it", "this {a}", "the {a} you found", "that", "the {a}"),
    generic_phrases=(
        "with {w} {v}", "with a {w} of {v}", "{w} {v}", "{w}: {v}", "{w} = {v}", "using {v} as {w}",
        "where {w} is {v}", "with the {w} set to {v}", "for the {w} {v}", "at {w} {v}",
        "with {v} as the {w}", "and {w} {v}", "of {w} {v}", "{w}={v}",
    ),
    generic_descriptions=(
        "the {w}", "{w} to use", "value of the {w}", "which {w}", "{W}", "{w} of the {o}", "The {w}.",
        "{W} for the {o}", "sets the {w}", "what {w} it has",
    ),
    enum_phrases=(
        "with {v} {w}", "{w} {v}", "in {v} {w}", "{w}: {v}", "with {w} {v}", "{w} = {v}", "as {v}",
        "{v} {w}", "using the {v} {w}",
    ),
    flag_on=(
        "with {w}", "with {w} on", "{w}: yes", "{w}=true", "and make it {w}", "{w} enabled",
        "{w} please", "switch {w} on",
    ),
    flag_off=(
        "without {w}", "with {w} off", "{w}: no", "{w}=false", "but not {w}", "{w} disabled",
        "no {w}", "switch {w} off",
    ),
)  # fmt: skip
