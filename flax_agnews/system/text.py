"""Numbers and durations as people read them."""


def count(number: float) -> str:
    """`21 k` for 21034: a number in three digits or fewer."""
    scaled, units = float(number), ["", " k", " M", " G", " T"]
    while round(scaled) >= 1000 and len(units) > 1:
        scaled, units = scaled / 1000, units[1:]
    short = f"{scaled:.1f}".removesuffix(".0") if round(scaled, 1) < 10 else f"{scaled:.0f}"
    return short + units[0]


def duration(seconds: float) -> str:
    """`0:00:31`: hours, minutes, seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def words_duration(seconds: float) -> str:
    """`1 min 40 s` for 100: the two largest units, rounded to the smaller of them."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        whole = round(whole / 60) * 60
    parts = [(whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def counted(number: int, noun: str) -> str:
    """`1 text`, `2,000 texts`, `3 strategies`, `4 classes`: a count with its noun, which is given in the singular."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'tch', 'sh')) else 's'}"
