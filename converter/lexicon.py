"""Names that fill the slots of smart-home commands.

Public names train the student; homes draw theirs from lists that share no entry with the public ones.
"""

PUBLIC: dict[str, tuple[str, ...]] = {
    "area": (
        "kitchen", "living room", "bedroom", "bathroom", "hallway", "garage", "dining room", "office",
        "basement", "garden", "main bedroom", "guest room", "porch", "laundry room", "entrance",
    ),
    "name": (
        "ceiling light", "floor lamp", "bedside lamp", "tv", "front door", "kitchen light", "desk lamp", "radio",
        "coffee machine", "heater", "fan", "blinds", "garage door", "speaker", "curtains", "garden lights",
        "thermostat", "robot vacuum", "washing machine", "back door", "christmas tree", "air conditioner",
    ),
    "floor": ("first", "second", "ground", "top", "upstairs", "downstairs"),
    "message": ("dinner is ready", "we are leaving", "come downstairs", "time for school", "the food is here"),
    "search_query": ("jazz", "the beatles", "morning news", "some rock music", "abbey road", "a comedy", "queen"),
    "timer_name": ("pizza", "laundry", "pasta", "tea", "workout", "homework"),
    "timer_command": ("turn off the lights", "open the blinds", "lock the front door", "turn on the heater"),
    "shopping_list_item": ("milk", "bread", "eggs", "apples", "toilet paper", "cheese", "coffee"),
    "todo_list_item": ("call mom", "wash the car", "pay the rent", "water the plants", "book a dentist"),
    "zone": ("home", "work", "school", "the gym"),
}  # fmt: skip

PRIVATE: dict[str, tuple[str, ...]] = {
    "area": (
        "attic", "study", "nursery", "workshop", "conservatory", "pantry", "veranda", "library", "playroom", "den",
        "sauna", "terrace", "cellar", "studio", "mudroom", "lounge", "loft", "greenhouse", "music room", "gym",
        "sunroom", "kids room", "snug", "utility room",
    ),
    "name": (
        "reading lamp", "aquarium", "lava lamp", "salt lamp", "dehumidifier", "projector", "record player", "kettle",
        "space heater", "night light", "string lights", "skylight", "pool pump", "espresso maker", "humidifier",
        "awning", "patio heater", "turntable", "lantern", "air purifier", "rice cooker", "pendant lamp", "soundbar",
        "roller shutter", "hot tub", "doorbell", "gate", "side door", "spotlight", "vanity mirror", "mood light",
        "sprinkler", "fridge", "dishwasher", "monitor", "chandelier",
    ),
    "list_name": ("weekend", "errands", "packing", "garden", "birthday", "school", "project", "camping"),
    "floor": ("third", "lower", "middle", "mezzanine"),
    "message": (
        "the bus is here", "lunch in five minutes", "somebody left the gate open", "bath time", "grandma is calling",
        "the cake is done", "please feed the cat", "movie night starts now",
    ),
    "search_query": (
        "miles davis", "ocean sounds", "the evening concert", "kind of blue", "a nature documentary", "lullabies",
        "bossa nova", "the history podcast", "daft punk",
    ),
    "timer_name": ("sourdough", "yoga", "eggs", "nap", "sauna", "roast", "guitar practice", "compost"),
    "timer_command": (
        "close the awning", "turn on the espresso maker", "switch off the projector", "start the pool pump",
        "dim the lantern",
    ),
    "shopping_list_item": (
        "oat milk", "olive oil", "cat food", "lemons", "dish soap", "rye bread", "tomatoes", "candles", "batteries",
        "rice", "honey", "ginger", "yoghurt", "walnuts",
    ),
    "todo_list_item": (
        "fix the bike", "call the plumber", "return the books", "buy a gift", "clean the gutters", "mow the lawn",
        "renew the passport", "sort the mail", "paint the fence", "bake a cake",
    ),
    "zone": ("the office", "the lake house", "grandma's place", "the club"),
}  # fmt: skip
