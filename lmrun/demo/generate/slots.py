"""Kinds of parameters: what functions call them, how they describe them, how users give them."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmrun.demo.generate import values, words
from lmrun.demo.generate.values import Sampler

STRING: Mapping[str, Any] = {"type": "string"}
INTEGER: Mapping[str, Any] = {"type": "integer"}
NUMBER: Mapping[str, Any] = {"type": "number"}
STRINGS: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}
NUMBERS: Mapping[str, Any] = {"type": "array", "items": {"type": "number"}}


@dataclass(frozen=True)
class Wording:
    """Names and descriptions of a kind, and phrases of a request with ``{v}`` for the value."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of parameter. Values of one kind may stand in for each other."""

    schema: Mapping[str, Any]
    sample: Sampler
    wording: Wording


def wording(names: str, descriptions: str, phrases: str) -> Wording:
    """Lists written as one line each, with ``|`` between."""
    return Wording(tuple(names.split()), tuple(descriptions.split("|")), tuple(phrases.split("|")))


def _kind(schema: Mapping[str, Any], sample: Sampler, *lines: str) -> Kind:
    return Kind(schema, sample, wording(*lines))


KINDS: dict[str, Kind] = {
    "person": _kind(
        STRING, values.first_name,
        "person name contact recipient who user customer guest employee member friend client"
        " person_name user_name contact_name patient student colleague owner author",
        "name of the person|the person|who it is about|the person's name|whom it concerns"
        "|full name|name of the customer|the contact",
        "for {v}|to {v}|with {v}|of {v}|from {v}|on behalf of {v}",
    ),
    "city": _kind(
        STRING, values.place(words.CITIES),
        "city town place city_name place_name where region_name area_name target_city",
        "the city|name of the city|city to use|which town|the place|name of the place",
        "in {v}|for {v}|near {v}|in the city of {v}",
    ),
    "country": _kind(
        STRING, values.place(words.COUNTRIES),
        "country nation country_name state land home_country",
        "the country|name of the country|which country|country to use",
        "in {v}|for {v}|for the country {v}",
    ),
    "origin": _kind(
        STRING, values.place(words.CITIES),
        "origin from_city start departure_city source from_place start_point leaving_from",
        "where it starts|the place of departure|starting point|city to leave from",
        "from {v}|starting in {v}|leaving {v}",
    ),
    "goal": _kind(
        STRING, values.place(words.CITIES),
        "to_city target arrival_city to_place end_point arrival going_to",
        "where it ends|the place of arrival|end point|city to go to",
        "to {v}|going to {v}|bound for {v}",
    ),
    "date": _kind(
        STRING, values.date,
        "date day on_date date_text due due_date event_date the_day date_of_event calendar_day",
        "the date|which day|day of the event|date as text|the day it happens|due date",
        "on {v}|for {v}|dated {v}|due {v}",
    ),
    "time": _kind(
        STRING, values.time,
        "time hour at_time time_of_day clock_time start_time when_time alarm_time",
        "time of day|the time|at what time|clock time|the hour",
        "at {v}|for {v}|starting at {v}",
    ),
    "minutes": _kind(
        INTEGER, values.small(1, 240),
        "minutes duration duration_minutes length_minutes mins num_minutes how_long",
        "duration in minutes|how many minutes|length in minutes|minutes it takes",
        "for {v} minutes|lasting {v} minutes|of {v} minutes|with a duration of {v} minutes",
    ),
    "hours": _kind(
        INTEGER, values.small(1, 72),
        "hours num_hours duration_hours number_of_hours",
        "number of hours|how many hours|hours it lasts",
        "for {v} hours|over {v} hours|during {v} hours",
    ),
    "days": _kind(
        INTEGER, values.small(2, 60),
        "days num_days number_of_days day_count nights",
        "number of days|how many days|days it lasts",
        "for {v} days|over {v} days|for the next {v} days",
    ),
    "count": _kind(
        INTEGER, values.small(2, 500),
        "count quantity n how_many number_of_items item_count num_items pieces copies",
        "how many|number of items|quantity|the count|number of copies",
        "{v} times|with a count of {v}|with quantity {v}|{v} pieces|{v} of them",
    ),
    "people": _kind(
        INTEGER, values.small(2, 40),
        "people guests num_people persons group_size seats head_count",
        "number of people|how many guests|size of the group|seats needed",
        "for {v} people|for a group of {v}|for {v} guests|for {v} persons",
    ),
    "limit": _kind(
        INTEGER, values.small(1, 100),
        "max_results top_k num_results maximum result_count at_most",
        "at most this many|largest number of results|how many results|maximum number",
        "at most {v}|limited to {v} results|up to {v} results|only the first {v}",
    ),
    "email": _kind(
        STRING, values.email,
        "email email_address to_email mail address_email recipient_email mail_to",
        "email address|the email|address of the mailbox|where to mail it",
        "to {v}|at {v}|with the email {v}|for {v}|using the address {v}",
    ),
    "phone": _kind(
        STRING, values.phone,
        "phone phone_number tel mobile telephone caller_number",
        "telephone number|the phone number|number to dial|mobile number",
        "to {v}|at {v}|with the phone number {v}|on {v}",
    ),
    "url": _kind(
        STRING, values.url,
        "url link web_address page_url address_url href site",
        "web address|the link|address of the page|URL to use",
        "at {v}|from {v}|with the link {v}|of {v}",
    ),
    "path": _kind(
        STRING, values.path,
        "path file file_path filename file_name document_path source_file",
        "path of the file|the file|name of the file|which file",
        "{v}|in {v}|from {v}|of the file {v}|in the file {v}",
    ),
    "folder": _kind(
        STRING, values.noun,
        "folder directory target_folder to_folder dir album_name bucket_name",
        "the folder|which folder|name of the folder|folder to use",
        "in the folder {v}|to the folder {v}|into the {v} folder|in folder {v}",
    ),
    "title": _kind(
        STRING, values.title,
        "title heading name_of_item caption headline item_title subject_line event_name label",
        "the title|name to give it|title of the item|heading|what it is called",
        "called {v}|titled {v}|named {v}|with the title {v}|under the name {v}",
    ),
    "message": _kind(
        STRING, values.sentence,
        "message text body content note message_text words_to_send msg contents",
        "the message|text to use|what to say|the words|content of the message|body text",
        "saying {v}|with the text {v}|that says {v}|with the message {v}|reading {v}",
    ),
    "topic": _kind(
        STRING, values.topic,
        "topic keyword about search_term search_text phrase_to_find theme q term",
        "what to look for|words to search|the topic|what it is about|search words",
        "about {v}|on {v}|matching {v}|regarding {v}|with the keyword {v}",
    ),
    "money": _kind(
        NUMBER, values.number,
        "amount price cost money sum_of_money payment budget_amount total_price value_amount",
        "amount of money|how much money|the price|amount to pay|the sum",
        "of {v} dollars|for {v} euros|worth {v}|with an amount of {v}|for {v} dollars|of {v}",
    ),
    "percent": _kind(
        NUMBER, values.small(1, 100),
        "percent percentage rate_percent share_percent pct discount_percent",
        "in percent|the percentage|percent to use|rate in percent",
        "by {v} percent|at {v}%|with {v} percent|by {v}%",
    ),
    "degrees": _kind(
        NUMBER, values.number,
        "degrees temperature angle temp degrees_celsius heat_level",
        "in degrees|the temperature|angle in degrees|temperature to set",
        "to {v} degrees|by {v} degrees|at {v} degrees",
    ),
    "currency": _kind(
        STRING, values.one_of(words.CURRENCIES),
        "currency currency_code money_code in_currency",
        "currency code|which currency|three-letter code of the currency",
        "in {v}|using {v}|with currency {v}",
    ),
    "language": _kind(
        STRING, values.one_of(words.LANGUAGES),
        "language lang to_language language_name output_language tongue",
        "the language|which language|language to use|name of the language",
        "in {v}|into {v}|to {v}|using {v}",
    ),
    "color": _kind(
        STRING, values.one_of(words.COLORS),
        "color colour paint_color shade hue color_name",
        "the color|which color|color to use|name of the color",
        "in {v}|with the color {v}|colored {v}|using {v}",
    ),
    "code": _kind(
        STRING, values.code,
        "id code item_id reference order_id number_code identifier ticket_id user_id key record_id"
        " serial account_id product_code invoice_number",
        "the identifier|id of the item|reference code|its id|code of the record|unique id",
        "{v}|with id {v}|number {v}|with the code {v}|with reference {v}|identified by {v}",
    ),
    "symbol": _kind(
        STRING, values.symbol,
        "symbol ticker stock_symbol ticker_symbol share_code",
        "ticker symbol|symbol of the stock|short code of the share",
        "for {v}|of {v}|with the symbol {v}",
    ),
    "food": _kind(
        STRING, values.one_of(words.FOODS),
        "food dish_name meal_name ingredient snack item_of_food",
        "the dish|which food|name of the meal|what to eat",
        "with {v}|of {v}|using {v}|for {v}",
    ),
    "animal": _kind(
        STRING, values.one_of(words.ANIMALS),
        "animal species pet creature animal_name kind_of_animal",
        "the animal|which species|kind of animal|the creature",
        "for a {v}|of a {v}|with a {v}|about a {v}",
    ),
    "word": _kind(
        STRING, values.word,
        "word letters string text_input input term_text value_text token_text",
        "the word|a piece of text|the string|text to work on|input text",
        "{v}|of {v}|for the word {v}|of the word {v}|in {v}",
    ),
    "width": _kind(
        NUMBER, values.number,
        "width base_width side_a wide w horizontal_size",
        "the width|how wide|width of it|horizontal size",
        "with width {v}|{v} wide|with a width of {v}|of width {v}",
    ),
    "height": _kind(
        NUMBER, values.number,
        "height side_b tall h vertical_size how_high",
        "the height|how high|height of it|vertical size",
        "with height {v}|{v} high|with a height of {v}|of height {v}",
    ),
    "distance": _kind(
        NUMBER, values.number,
        "distance kilometers km how_far range_km miles",
        "the distance|how far|distance in kilometers|length of the way",
        "by {v} kilometers|over {v} km|within {v} kilometers|at a distance of {v}",
    ),
    "weight": _kind(
        NUMBER, values.number,
        "weight mass kilograms weight_kg kg how_heavy",
        "the weight|mass in kilograms|how heavy|weight in kg",
        "weighing {v} kg|with a weight of {v}|of {v} kilograms",
    ),
    "year": _kind(
        INTEGER, values.small(1800, 2040),
        "year in_year from_year year_number",
        "the year|which year|calendar year|year as a number",
        "in {v}|for the year {v}|of {v}|from {v}",
    ),
    "age": _kind(
        INTEGER, values.small(1, 99),
        "age years_old age_years how_old",
        "the age|age in years|how old",
        "aged {v}|who is {v} years old|with age {v}|of age {v}",
    ),
    "level": _kind(
        INTEGER, values.small(0, 100),
        "level volume brightness intensity strength power_level stars score_value",
        "the level|from 0 to 100|how strong|level to set",
        "to {v}|at level {v}|to level {v}|with level {v}",
    ),
    "numbers": _kind(
        NUMBERS, values.numbers,
        "numbers values data items data_points series_values nums samples",
        "list of numbers|the numbers|values to use|the data|all numbers",
        "of {v}|for {v}|of the numbers {v}|for the list {v}|from {v}",
    ),
    "names": _kind(
        STRINGS, values.several(values.first_name),
        "names people_list participants members invitees persons_list users",
        "list of names|the people|who takes part|names of all",
        "with {v}|for {v}|including {v}|to {v}",
    ),
    "tags": _kind(
        STRINGS, values.several(values.word),
        "tags labels keywords categories words_list topics",
        "list of tags|labels to use|the keywords|words to attach",
        "tagged {v}|with tags {v}|with labels {v}|under {v}",
    ),
    "number": _kind(
        NUMBER, values.number,
        "value_of_it decimal quantity_value z figure real_number",
        "some figure|the figure|number with decimals|value to use",
        "{v}|of {v}|with {v}|for {v}",
    ),
    "small": _kind(
        INTEGER, values.small(1, 30),
        "small_number k position rank_number place_number",
        "a small number|the position|which one",
        "{v}|of {v}|number {v}",
    ),
    "noun": _kind(
        STRING, values.noun,
        "thing object what which_thing item_name subject",
        "the thing|what it is|which one|name of the thing",
        "for the {v}|of the {v}|with the {v}|on the {v}",
    ),
    "whole": _kind(
        INTEGER, values.integer,
        "number num integer x value input_number number_value the_number",
        "some whole number|the number|whole number|number to use",
        "{v}|of {v}|for {v}|for the number {v}|of the number {v}",
    ),
}  # fmt: skip

FLAGS = wording(
    "urgent silent is_private recursive dry_run overwrite verbose include_tax in_stock_only"
    " with_images round_trip notify_owner is_public repeat_daily exact_match keep_backup",
    "whether it is so|true or false|yes or no|switch this on|set it if wanted",
    "",
)

ENUMS: dict[str, tuple[str, ...]] = {
    "size": ("small", "medium", "large"),
    "priority": ("low", "normal", "high"),
    "mode": ("fast", "balanced", "careful"),
    "format": ("json", "csv", "xml", "text"),
    "temperature_unit": ("celsius", "fahrenheit"),
    "direction": ("left", "right", "up", "down"),
    "sort_order": ("ascending", "descending"),
    "frequency": ("daily", "weekly", "monthly"),
    "travel_class": ("economy", "business", "first"),
    "status_filter": ("open", "closed", "pending"),
    "difficulty": ("easy", "medium", "hard"),
    "quality": ("draft", "standard", "best"),
    "season": ("spring", "summer", "autumn", "winter"),
    "transport": ("car", "train", "bus", "bicycle"),
    "genre": ("rock", "jazz", "pop", "classical"),
    "shape": ("circle", "square", "triangle"),
    "channel": ("email", "sms", "push"),
    "meal_type": ("breakfast", "lunch", "dinner"),
    "gender": ("male", "female", "other"),
    "roast": ("light", "medium", "dark"),
}
"""Parameter name → its choices. Many more are drawn at random."""


def pick(rng: random.Random, lines: tuple[str, ...]) -> str:
    """One of some lines."""
    return lines[int(rng.random() * len(lines))]
