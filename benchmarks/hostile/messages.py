"""What the pages send to Python, sound and malformed, and whether an answer acknowledges an act."""

from benchmarks.hostile.inputs import VALUES

SEARCHING = ("hello", "upload", "words", "like", "like", "back", "more", "vote", "vote", "want")


def searching(rng, names: list[str]) -> dict:
    """A message as the search page sends it."""
    kind = SEARCHING[rng.integers(len(SEARCHING))]
    query, row = (int(each) for each in rng.integers(len(names), size=2))
    fields = {
        "upload": {"file": "x.png", "part": 0, "last": True},
        "words": {"text": "a house"},
        "like": {"row": row},
        "vote": {
            "query": query,
            "row": row,
            "names": [names[query], names[row]],
            "vote": ("up", "down", "")[rng.integers(3)],
        },
        "want": {"rows": [row], "large": bool(rng.random() < 0.3)},
    }.get(kind, {})
    return {
        "kind": kind,
        "serial": f"s{rng.integers(10**9)}",
        "name": "ann",
        "k": int(rng.integers(1, 70)),
        **fields,
    }


def malformed(rng, message: dict):
    """The message with a field lost, or of another type or value; sometimes no mapping at all."""
    message = dict(message)
    name, how = list(message)[rng.integers(len(message))], rng.random()
    if how < 0.3:
        del message[name]
    elif how < 0.95:
        value = VALUES[rng.integers(len(VALUES))]
        message[name] = value if rng.random() < 0.7 else [value]
    else:
        return [None, [], "hello", 3, {}][rng.integers(5)]
    return message


def kind_of(message) -> str:
    """The kind a message says it is."""
    return str(message.get("kind"))[:20] if isinstance(message, dict) else "message"


def told(message: dict, annotator: str, pair: tuple[str, str]) -> tuple:
    """annotator, image1, image2, act, grade: what the journal must say of an act or a vote."""
    one, two = sorted(pair)
    if message["kind"] == "vote":
        who = str(message["name"]).strip()[:60] or "visitor"
        return (
            who,
            one,
            two,
            {"up": "vote_up", "down": "vote_down", "": "unvote"}[message["vote"]],
            None,
        )
    return (
        annotator,
        one,
        two,
        message["act"],
        message.get("grade") if message["act"] == "grade" else None,
    )
