"""time-window: changes happen when somebody is there to see them."""

from postern import Request, Settings, Verdict, allow, block, define, require_approval, rule

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAY = 24 * 60


class WindowSettings(Settings):
    windows: list[str] = ["mon-fri 08:00-18:00"]
    utc_offset_minutes: int = 0
    verbs: list[str] = ["create", "update", "patch", "delete", "deletecollection"]
    resources: list[str] = []
    namespaces: list[str] = []
    approvers: list[str] = []
    exempt_groups: list[str] = []


def parse(window: str) -> list[tuple[int, int]]:
    """`mon-fri 08:00-18:00`, `sat 10:00-14:00`, `mon,wed 22:00-02:00`: beginnings and ends in seconds of a week, which begins on a Thursday as 1970 did."""
    try:
        days_text, hours = window.lower().split()
        days: set[int] = set()
        for part in days_text.split(","):
            first, _, last = part.partition("-")
            begin, end = DAYS.index(first), DAYS.index(last or first)
            days.update(n % 7 for n in range(begin, end + 1 if end >= begin else end + 8))
        begin_text, end_text = hours.split("-")
        minutes = []
        for text in (begin_text, end_text):
            hour, minute = text.split(":")
            value = int(hour) * 60 + int(minute)
            if not (0 <= value <= DAY and 0 <= int(minute) < 60):
                raise ValueError
            minutes.append(value)
        if minutes[0] == minutes[1]:
            raise ValueError
        begin, end = minutes
        # Over midnight: what began on a day goes on into the next, and what began on the last of the week into the first.
        since_thursday = [(day - 3) % 7 for day in sorted(days)]
        return [((day * DAY + begin) % (7 * DAY) * 60, ((day + (end < begin)) % 7 * DAY + end) * 60) for day in since_thursday]
    except ValueError:
        raise ValueError(f"settings.windows: {window!r} is no window; write mon-fri 08:00-18:00") from None


class TimeWindow:
    name = "time-window"
    version = "0.1.0"
    summary = "Lets changes pass in the hours when somebody is there"
    settings = WindowSettings
    capabilities: list[str] = []

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []

    def configure(self, settings: WindowSettings) -> None:
        if not settings.windows:
            raise ValueError("settings.windows: name at least one, or use the policy freeze")
        if not -DAY <= settings.utc_offset_minutes <= DAY:
            raise ValueError("settings.utcOffsetMinutes: between -1440 and 1440")
        self.windows = [times for window in settings.windows for times in parse(window)]

    @staticmethod
    def rules(settings: WindowSettings):
        return [rule(verbs=settings.verbs, resources=settings.resources, namespaces=settings.namespaces)]

    def on_request(self, request: Request, settings: WindowSettings) -> Verdict:
        if request.dry_run or request.is_in(settings.exempt_groups):
            return allow()
        if request.at(self.windows, 7 * DAY * 60, settings.utc_offset_minutes * 60) is not None:
            return allow()
        reason = f"{request.verb} of {request.resource or request.path} outside {'; '.join(settings.windows)}"
        if settings.approvers:
            return require_approval(reason, settings.approvers)
        return block(reason, "wait for the window, or ask one of the exempt groups")


Policy = define(TimeWindow)
