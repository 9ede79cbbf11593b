"""The tables of the house: which room is where, who may know what, and the exceptions with their reasons.

A new file of the launcher needs a line here: that is where its room is decided.
"""

from __future__ import annotations

# Lower rooms first; a room imports from its own floor and from those above it in this list.
FLOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "words",
        (
            "launcher",
            "launcher.models",
            "launcher.errors",
            "launcher.values",
            "launcher.hostwords",
            "launcher.escapes",
            "launcher.keys",
            "launcher.codec",
            "launcher.events",
            "launcher.agent",
        ),
    ),
    (
        "decisions",
        (
            "launcher.plan",
            "launcher.ask",
            "launcher.arguments",
            "launcher.estimate",
            "launcher.attempt",
            "launcher.runstate",
            "launcher.guard",
            "launcher.judging",
            "launcher.refusals",
        ),
    ),
    (
        "disk",
        (
            "launcher.files",
            "launcher.scans",
            "launcher.selection",
            "launcher.inputs",
            "launcher.store",
            "launcher.journal",
            "launcher.bundled",
            "launcher.yamlfile",
            "launcher.profiles",
            "launcher.settings",
            "launcher.recipe",
            "launcher.jobs",
            "launcher.catalogue",
            "launcher.sshfiles",
            "launcher.hosts",
        ),
    ),
    ("promises", ("launcher.providers.base", "launcher.remote.base", "launcher.dockerapi", "launcher.ssh")),
    (
        "effects",
        (
            "launcher.providers",
            "launcher.remote",
            "launcher.images",
            "launcher.artifacts",
            "launcher.agentpack",
        ),
    ),
    (
        "top",
        (
            "launcher.engine",
            "launcher.steps",
            "launcher.world",
            "launcher.telemetry",
            "launcher.transfers",
            "launcher.report",
            "launcher.driver",
            "launcher.planning",
            "launcher.targets",
            "launcher.meanings",
            "launcher.runtimes",
            "launcher.pushset",
            "launcher.pricing",
            "launcher.together",
            "launcher.strays",
            "launcher.attend",
            "launcher.lastlook",
        ),
    ),
    ("cli", ("launcher.cli", "launcher.__main__")),
)

# The only rooms whose files may know their own neighbours on the floor of effects.
NEIGHBOURS_ALLOWED = frozenset({"launcher.providers.wrap", "launcher.providers.registry"})

# Decisions, and the agent's mind, see these modules and nothing else that is not ours.
PURE = frozenset(
    {
        "__future__",
        "abc",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "math",
        "operator",
        "re",
        "statistics",
        "shlex",
        "string",
        "types",
        "typing",
    }
)
PURE_ROOMS = (
    "launcher.plan",
    "launcher.ask",
    "launcher.arguments",
    "launcher.estimate",
    "launcher.attempt",
    "launcher.runstate",
    "launcher.guard",
    "launcher.judging",
    "launcher.refusals",
    "launcher.agent.mind",
    "launcher.agent.protocol",
    "launcher.agent.outbook",
    "launcher.agent.past",
    "launcher.agent.watchbook",
)
IMPURE_CALLS = frozenset({"open", "print", "input", "now", "utcnow", "today"})

# The engine and its steps reach these only through the world they are given.
WORLDLY = frozenset(
    {
        "asyncio",
        "concurrent",
        "multiprocessing",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "subprocess",
        "threading",
        "time",
        "uuid",
    }
)

# A library of a vendor or of one purpose, and who may know it.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "docker": (
        "launcher.dockerapi",
        "launcher.providers.docker",
        "launcher.providers.docker_forms",
        "launcher.remote.container",
        "launcher.remote.shell",
        "launcher.images",
    ),
    "boto3": ("launcher.providers.aws",),
    "botocore": ("launcher.providers.aws",),
    "runpod": ("launcher.providers.runpod",),
    "paramiko": ("launcher.ssh",),
    "requests": ("launcher.providers", "launcher.dockerapi"),
    "click": ("launcher.cli",),
    "rich": ("launcher.cli.show",),
    "pydantic": ("launcher.yamlfile",),
    "ruamel": ("launcher.yamlfile",),
}

# Importing these costs more than a quick command may take: only inside the function that needs them.
HEAVY = frozenset(
    {
        "boto3",
        "botocore",
        "docker",
        "fabric",
        "jinja2",
        "numpy",
        "paramiko",
        "pandas",
        "pydantic",
        "requests",
        "rich",
        "ruamel",
        "runpod",
        "sklearn",
        "torch",
        "xgboost",
    }
)

VENDORS = ("runpod", "aws", "docker")

FILE_LINES = 400
FUNCTION_LINES = 60
FUNCTION_LINES_P90 = 25

# law -> where -> reason. An exception that nothing needs any more is a breach itself.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "broad except is for the engine and the command line": {
        "launcher.ssh.waiting": "what a thread met, whatever it is, is raised in the one that waits for it",
    },
    "a provider is named in its own file and the registry": {
        "launcher.models": "RuntimeKind.DOCKER is a runtime that machines of any provider have",
        "launcher.cli.host": "docker is a program that a host may have, and `check` tells",
        "launcher.providers.ssh_far": "docker is a program that a host may have",
        "launcher.providers.ssh_far_docker": "docker is a program that a host may have",
        "launcher.remote.inside": "docker is a program that a host may have",
    },
    "heavy imports wait until they are used": {
        "launcher.ssh.transport": "is imported itself only where a connection is made",
    },
    "only the command line and the agent end a process": {
        "launcher.remote.courier": "is a program of its own inside the container",
        "launcher.remote.attendant": "is a program of its own on the run's machine",
        "launcher.remote.relay": "is a program of its own inside the container",
        "launcher.remote.verdicts": "is a program of its own on the host",
    },
}
