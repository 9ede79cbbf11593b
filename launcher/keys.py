"""The table of every setting: the one source of flags, variables, profile keys, schema and help.

Words only: standard library, no reading of anything. It names no provider; what a target is called is
the registry's matter, and whether a GPU exists is the catalogue's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from launcher import hostwords, values
from launcher.models import Json, SecretRef

PREFIX = "LAUNCHER_"
DAY_S = 24 * 3600


class Kind(StrEnum):
    TEXT = "text"
    INT = "int"
    BOOL = "bool"
    MONEY = "money"  # Decimal, USD
    DURATION = "duration"  # int, seconds
    LIST = "list"  # tuple of str
    MAPPING = "mapping"  # dict
    PATH = "path"  # str; settings makes it absolute
    CHOICE = "choice"


class Group(StrEnum):
    """The headings of `run --help`."""

    WHERE = "Where"
    LIMITS = "Money and time"
    WHAT = "What runs"
    MACHINE = "How it runs"
    TALK = "This command"
    FILE = "Profiles and variables only"


def _asis(word: str) -> str:
    return word


def _entry(_name: str, value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError("needs a word, a number, true or false")


@dataclass(frozen=True)
class Key:
    """One setting. `parse` takes what a flag, a variable or a YAML file says and gives the typed value."""

    name: str
    kind: Kind
    help: str
    flags: tuple[str, ...] = ()
    group: Group = Group.FILE
    default: Any = None
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    in_profile: bool = True
    check: Callable[[str], str] = _asis  # texts, and each item of a list
    split: Callable[[str], tuple[str, str]] = values.pair  # "K=V" of a mapping
    entry: Callable[[str, object], object] = _entry  # one entry of a mapping
    several: bool = False  # the flag may be repeated
    nested: bool = False  # an entry of the mapping may be a mapping itself
    alone: str = ""  # the choice that the flag without a value, and a true in a file, stand for

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str | None:
        """The flag to name in sentences."""
        return next((flag for flag in self.flags if flag.startswith("--")), None)

    def parse(self, raw: object) -> Any:
        if raw is None:
            raise ValueError("has no value; leave the line out to keep the default")
        match self.kind:
            case Kind.INT:
                return values.whole(raw, self.low, self.high)
            case Kind.BOOL:
                return values.truth(raw)
            case Kind.MONEY:
                return values.money(raw, self.low, self.high)
            case Kind.DURATION:
                return values.duration(raw, self.low, self.high)
            case Kind.LIST:
                return values.words(raw, self.check)
            case Kind.MAPPING:
                return values.mapping(raw, self.split, self.entry)
            case Kind.CHOICE:
                return values.choice(self._yes_or_no(raw), self.choices)
        return self.check(values.text(raw))

    def _yes_or_no(self, raw: object) -> object:
        """The words for true and false are choices too where the flag may stand alone."""
        if not self.alone or str(raw).strip() in self.choices:
            return raw
        try:
            return self.alone if values.truth(raw) else self.default
        except ValueError:
            return raw

    def schema(self) -> Json:
        """What an editor may check while the user types."""
        return {"description": self.help, **_SHAPES[self.kind], **self._limits()}

    def _limits(self) -> Json:
        if self.nested:
            return {"type": "object", "additionalProperties": {"type": ["string", "object"]}, "items": {}}
        if self.kind is Kind.CHOICE:
            return {"enum": [*self.choices, *((True, False) if self.alone else ())]}
        if self.kind is Kind.INT:
            bounds = {"minimum": self.low, "maximum": self.high}
            return {word: bound for word, bound in bounds.items() if bound is not None}
        return {}


_SHAPES: dict[Kind, Json] = {
    Kind.TEXT: {"type": ["string", "number"]},
    Kind.PATH: {"type": "string"},
    Kind.INT: {"type": "integer"},
    Kind.BOOL: {"type": "boolean"},
    Kind.MONEY: {"type": ["number", "string"], "minimum": 0, "pattern": r"^\$?\d+(\.\d+)?$"},
    Kind.DURATION: {"type": ["integer", "string"], "minimum": 0, "pattern": r"^(\d+(\.\d+)?[hms]?)+$"},
    Kind.LIST: {"type": ["array", "string"], "items": {"type": ["string", "number"]}},
    Kind.MAPPING: {
        "type": ["object", "array", "string"],
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "items": {"type": "string"},
    },
    Kind.CHOICE: {},
}


def _target(word: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*(:[^\s:][^\s]*)?", word):
        raise ValueError(f"needs a target such as local or ssh:NAME, not '{word}'")
    return word


def _run_name(word: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", word):
        raise ValueError(f"needs small letters, digits and '-' (at most 41), not '{word}'")
    return word


def _version(word: str) -> str:
    if word.lower() in ("latest", "latest.json"):
        raise ValueError(f"'{word}' is reserved for the newest verified version")
    return values.slug(word)


def _url(word: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", word):
        raise ValueError(f"needs a web address, not '{word}'")
    return word


def _cuda(word: str) -> str:
    if not re.fullmatch(r"\d{1,2}\.\d{1,2}", word):
        raise ValueError(f"needs a version such as 12.8, not '{word}'")
    return word


def _id(word: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", word):
        raise ValueError(f"needs an id of letters, digits, '-' and '_', not '{word}'")
    return word


def _registry(word: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*(:\d{1,5})?(/[a-z0-9][a-z0-9._-]*)+", word):
        raise ValueError(f"needs a registry and a name in it, such as host/me, not '{word}'")
    return word


def _variable_entry(name: str, value: object) -> str:
    values.variable(name)
    if name.startswith(PREFIX):
        raise ValueError(f"{name} is the launcher's own word; choose another name")
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, str | int | float) or "\0" in str(value):
        raise ValueError("needs a word or a number")
    return str(value)


def _host_entry(name: str, value: object) -> object:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name) or name == "any":
        raise ValueError("is named by small letters, digits and '-', and not 'any'")
    return hostwords.wish(value)


def _input_split(written: str) -> tuple[str, str]:
    """NAME=PATH, or PATH alone: the nameless input is called "" here."""
    name, equals, path = written.partition("=")
    return (name, path) if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) else ("", written)


def _input_entry(name: str, path: object) -> str:
    if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
        raise ValueError(f"'{name}' cannot be an input's name (letters, digits, '-', '_')")
    return values.text(path)


def _secret_split(written: str) -> tuple[str, str]:
    name, equals, source = written.partition("=")
    return (name, source) if equals else (name, f"env:{name}")


def _secret_entry(name: str, source: object) -> SecretRef:
    """Never repeats what was written: somebody may have put the secret itself there."""
    values.variable(name)
    kind, _, place = str(source).partition(":")
    if kind == "env" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", place):
        return SecretRef(name, "env", place)
    if kind == "file" and place:
        return SecretRef(name, "file", place)
    raise ValueError(f"{name} needs env:VARIABLE or file:PATH: where it is found, never the secret itself")


_S, _B, _D, _M = Kind.TEXT, Kind.BOOL, Kind.DURATION, Kind.MONEY
_WHERE, _LIMITS, _WHAT, _MACHINE, _TALK = list(Group)[:5]

# One entry, one setting; read it as a page.
# fmt: off
_TABLE: tuple[Key, ...] = (
    Key("on", Kind.LIST, "Where to run; repeat it to try the cheapest of several first.", ("--on",),
        _WHERE, default=(), metavar="TARGET", check=_target, several=True),
    Key("gpu", Kind.LIST, "GPU by name, or any-24gb; repeat it for alternatives.", ("--gpu",),
        _WHERE, default=(), metavar="NAME", several=True),
    Key("gpus", Kind.INT, "How many GPUs.", ("--gpus",), _WHERE, default=1, low=1, high=16, metavar="N"),
    Key("region", Kind.LIST, "Only in this region; repeat it for alternatives.", ("--region",),
        _WHERE, default=(), metavar="NAME", several=True),
    Key("spot", Kind.CHOICE, "Rent machines that may be taken away, for less; auto: where there are some.",
        ("--spot",), _WHERE, default="no", choices=("no", "only", "auto"), alone="only"),
    Key("cloud", Kind.CHOICE, "Which part of a marketplace to rent from.", ("--cloud",),
        _WHERE, default="secure", choices=("secure", "community", "any")),
    Key("min_cuda", _S, "Only machines whose driver serves at least this CUDA version.", ("--min-cuda",),
        _WHERE, metavar="VERSION", check=_cuda),
    Key("disk", Kind.INT, "Disk for data, checkpoints and results, in GB.", ("--disk",),
        _WHERE, low=1, high=4096, metavar="GB"),
    Key("network_volume", _S, "Id of storage of your own there, used instead of a disk.",
        ("--network-volume",), _WHERE, metavar="ID", check=_id),

    Key("max_price", _M, "Highest price of one GPU for one hour.", ("--max-price", "--bid-price"),
        _LIMITS, low=1, high=1000, metavar="USD"),
    Key("max_cost", _M, "Ceiling for the whole run, over all its machines.", ("--max-cost",),
        _LIMITS, high=100_000, metavar="USD"),
    Key("max_time", _D, "How long the trainer may run: 90s, 30m, 2h.", ("--max-time",),
        _LIMITS, low=1, high=DAY_S, metavar="DUR"),
    Key("idle", _D, "End it after this long without output, metrics, GPU or CPU work.", ("--idle",),
        _LIMITS, low=1, high=DAY_S, metavar="DUR"),
    Key("hold", _D, "How long results wait on the machine for a lost client.", ("--hold",),
        _LIMITS, default=1800, low=0, high=DAY_S, metavar="DUR"),
    Key("keep", _D, "Keep the machine reachable this long after the end.", ("--keep",),
        _LIMITS, default=0, low=0, high=DAY_S, metavar="DUR"),

    Key("project", Kind.PATH, "Run CMD in a copy of this folder instead of a trainer.", ("--project",),
        _WHAT, metavar="DIR"),
    Key("output", Kind.PATH, "Folder below the project that CMD writes its results to.", ("--output",),
        _WHAT, metavar="OUT", check=values.below),
    Key("inputs", Kind.MAPPING, "Data to bring along, ignored by git or not; repeatable.", ("--input",),
        _WHAT, default={}, metavar="[NAME=]PATH", split=_input_split, entry=_input_entry, several=True),
    Key("env", Kind.MAPPING, "Variable for the trainer; repeatable.", ("--env",),
        _WHAT, default={}, metavar="NAME=VALUE", entry=_variable_entry, several=True),
    Key("secret", Kind.MAPPING, "Secret for the trainer, by where it is found; repeatable.", ("--secret",),
        _WHAT, default={}, metavar="NAME[=env:VAR|file:PATH]", split=_secret_split, entry=_secret_entry,
        several=True),
    Key("seed", Kind.INT, "Seed for everything random in the trainer.", ("--seed",),
        _WHAT, low=0, high=2**32 - 1, metavar="N"),
    Key("name", _S, "Name of the run.", ("--name",),
        _WHAT, metavar="NAME", in_profile=False, check=_run_name),
    Key("version", _S, "Name of the version folder below models/.", ("--version",),
        _WHAT, metavar="NAME", in_profile=False, check=_version),

    Key("image", _S, "Container image instead of the trainer's own.", ("--image",),
        _MACHINE, metavar="IMAGE"),
    Key("template", _S, "Id of a template that the provider keeps, for its image and variables.",
        ("--template",), _MACHINE, metavar="ID", check=_id),
    Key("registry_login", _S, "Id of the login that the provider keeps for a private image.",
        ("--registry-login",), _MACHINE, metavar="ID", check=_id),
    Key("no_image", _B, "An environment on the machine instead of a container.", ("--no-image",),
        _MACHINE, default=False),
    Key("requirements", Kind.PATH, "Requirements file below the project.", ("--requirements",),
        _MACHINE, metavar="FILE", check=values.below),
    Key("setup", _S, "Command that prepares the environment before CMD.", ("--setup",),
        _MACHINE, metavar="CMD"),
    Key("device", Kind.CHOICE, "What the trainer computes on.", ("--device",),
        _MACHINE, default="auto", choices=("auto", "cpu", "cuda")),
    Key("require_gpu", _B, "Fail rather than train without a GPU.", ("--require-gpu",),
        _MACHINE, default=False),
    Key("allow_cpu", _B, "Let a rented GPU machine train on its CPU.", ("--allow-cpu",),
        _MACHINE, default=False),

    Key("profile", _S, "YAML file, or the name of a bundled profile.", ("--profile",),
        _TALK, metavar="FILE", in_profile=False),
    Key("dry_run", _B, "Show the plan and stop.", ("--dry-run",), _TALK, default=False, in_profile=False),
    Key("detach", _B, "Do not watch the run.", ("--detach", "-d"), _TALK, default=False),
    Key("yes", _B, "Do not ask; a paid target then needs a ceiling.", ("--yes", "-y"),
        _TALK, default=False, in_profile=False),
    Key("json", _B, "One JSON document on stdout.", ("--json",), _TALK, default=False, in_profile=False),

    Key("trainer", _S, "Which trainer runs when none is named.", default="quickstart", check=values.slug),
    Key("args", Kind.MAPPING, "Arguments of the trainer; what stands after -- overrides them.", default={}),
    Key("ready_within", _D, "How long a machine may take to be reachable.", default=600, low=1, high=DAY_S),
    Key("boot_limit", _D, "A machine whose trainer has not started by then ends itself.",
        default=900, low=1, high=DAY_S),
    Key("checkpoint_every", _D, "How often checkpoints and large results are fetched while training.",
        default=300, low=1, high=DAY_S),
    Key("hosts", Kind.MAPPING, "Your own machines by name: user@address[:port], or a mapping with more.",
        default={}, entry=_host_entry, nested=True),
    Key("image_registry", _S, "Where rented machines find the images that you built here: host/name.",
        check=_registry),
    Key("check_ip_url", _S, "Who tells the caller's own address.", check=_url),
)
# fmt: on

KEYS: dict[str, Key] = {key.name: key for key in _TABLE}


def _variables(*words: str) -> frozenset[str]:
    return frozenset(PREFIX + word for word in words)


# Never settings, however alike they look: what a trainer is told (inside a run only) and the launcher's own.
TOLD_TO_TRAINERS = _variables("RUN", "OUTPUT", "CHECKPOINT", "INPUT", "SEED")
OWN_VARIABLES = _variables("HOME", "LISTING_LAG", "TEST_NEED", "INSTANCE", "OWNER", "SPOOL", "CONSOLE")
