"""Card payments of which one in five hundred is fraud, which is known only days later, if ever.

The world is that of `driftmill generate` (engine/src/generator/world.rs): three profiles, honest customers, the known
fraud and a new one, which from the middle of the stream on makes up most of the fraud. Here fraud is rarer, and labels
are as those of chargebacks: what became of an honest payment is known after about two days, of a fraud after about
five, and of three payments in ten never. The stream is of fifty days, however many payments it has.
"""

import numpy as np

FRAUD_SHARE = 0.002
NEW_SHARE = 0.6
NEVER_SHARE = 0.3
DAYS = 50
DAY_MS = 86_400_000
# Median in days and standard deviation of the logarithm of the delay of labels, of honest payments and of fraud.
DELAYS = ((2.0, 0.5), (5.0, 0.7))
START_MS = 1_767_225_600_000

CATEGORIES = "grocery restaurant fuel fashion pharmacy transit electronics travel tickets gift-cards".split()
COUNTRIES = "DE FR ES IT NL PL PT EE".split()
AMOUNTS = np.array([3.4, 3.3, 3.9, 4.0, 2.9, 2.2, 5.0, 6.4, 4.6, 3.8])
AMOUNT_SD = 0.5
HONEST, KNOWN, NEW = 0, 1, 2
PROFILES = (
    {
        "categories": [22, 15, 10, 13, 8, 9, 7, 10, 4, 2],
        "countries": [24, 20, 15, 15, 10, 10, 4, 2],
        "amount": 0.0, "abroad": 0.08, "online": 0.35, "night": 0.06, "card_age": 6.5, "last_hour": 0.4,
    },
    {
        "categories": [5, 5, 3, 19, 2, 2, 36, 4, 4, 20],
        "countries": [24, 20, 15, 15, 10, 10, 4, 2],
        "amount": 0.4, "abroad": 0.65, "online": 0.8, "night": 0.12, "card_age": 5.7, "last_hour": 1.7,
    },
    {
        "categories": [4, 4, 1, 4, 1, 4, 8, 1, 67, 6],
        "countries": [6, 6, 4, 4, 3, 3, 2, 72],
        "amount": 0.0, "abroad": 0.33, "online": 0.9, "night": 0.75, "card_age": 6.5, "last_hour": 1.0,
    },
)  # fmt: skip
NAMES = (
    "@at,@known,amount,hour,card_age_days,last_hour,online,"
    "category:kind,category:merchant,category:country,category:card_country,target"
).split(",")


def pick(random, weights, count):
    weights = np.array(weights, dtype=float)
    return random.choice(len(weights), size=count, p=weights / weights.sum())


def traits(random, profile, count):
    """Columns of `count` payments of one profile, NaN or -1 where a record lacks the value."""
    kind = pick(random, profile["categories"], count)
    country = pick(random, profile["countries"], count)
    abroad = random.random(count) < profile["abroad"]
    elsewhere = (country + 1 + random.integers(0, len(COUNTRIES) - 1, count)) % len(COUNTRIES)
    night = random.random(count) < profile["night"]
    missing = lambda share, values: np.where(random.random(count) < share, np.nan, values)
    return {
        "amount": np.exp(AMOUNTS[kind] + profile["amount"] + AMOUNT_SD * random.standard_normal(count)),
        "hour": np.where(night, random.integers(0, 6, count), random.integers(6, 24, count)),
        "card_age_days": missing(0.01, np.floor(np.exp(profile["card_age"] + random.standard_normal(count)))),
        "last_hour": missing(0.005, random.poisson(profile["last_hour"], count)),
        "online": (random.random(count) < profile["online"]).astype(int),
        "kind": kind,
        "merchant": random.integers(0, 10, count),
        "country": country,
        "card_country": missing(0.005, np.where(abroad, elsewhere, country)),
    }


def make(count, seed=1):
    """Columns of `count` payments, with `pattern`, `at` and `known` (NaN: never), in ms."""
    random = np.random.default_rng(seed)
    fraud = random.random(count) < FRAUD_SHARE
    is_new = (np.arange(count) >= count // 2) & (random.random(count) < NEW_SHARE)
    pattern = np.where(fraud, np.where(is_new, NEW, KNOWN), HONEST)
    by_profile = [traits(random, profile, count) for profile in PROFILES]
    columns = {name: np.choose(pattern, [made[name] for made in by_profile]) for name in by_profile[0]}
    median, sigma = (np.where(fraud, fraud_is, honest_is) for honest_is, fraud_is in zip(*DELAYS))
    days = median * np.exp(sigma * random.standard_normal(count))
    at = START_MS + np.arange(count) * (DAYS * DAY_MS / count)
    known = np.where(random.random(count) < NEVER_SHARE, np.nan, at + days * DAY_MS)
    return {**columns, "at": at, "known": known, "pattern": pattern}


def write(path, count):
    """Writes the stream of `count` payments."""
    made = make(count)
    number = lambda value: "" if value != value else f"{value:g}"
    text = lambda names, value: "" if value != value else names[int(value)]
    with open(path, "w", encoding="utf-8") as out:
        out.write(",".join(NAMES) + "\n")
        for row in range(count):
            of = lambda name: made[name][row]
            kind = text(CATEGORIES, of("kind"))
            cells = [
                f"{of('at'):.0f}",
                "" if of("known") != of("known") else f"{of('known'):.0f}",
                f"{of('amount'):.2f}",
                number(of("hour")),
                number(of("card_age_days")),
                number(of("last_hour")),
                number(of("online")),
                kind,
                f"{kind}-{of('merchant')}",
                text(COUNTRIES, of("country")),
                text(COUNTRIES, of("card_country")),
                str(int(of("pattern") != HONEST)),
            ]
            out.write(",".join(cells) + "\n")
