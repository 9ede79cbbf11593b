"""The laws over Python files. Each takes a tree and yields (where, what is wrong there)."""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping

from tests.laws import house
from tests.laws.source import Import, Module, Tree, dotted, length, within

Breaches = Iterator[tuple[str, str]]
Law = Callable[[Tree], Breaches]

LAWS: dict[str, Law] = {}


def law(function: Law) -> Law:
    LAWS[function.__name__.replace("_", " ")] = function
    return function


def floor(name: str) -> int | None:
    """By the longest entry that covers it; the package itself covers only its own __init__."""
    found = [
        (len(room), level)
        for level, (_, rooms) in enumerate(house.FLOORS)
        for room in rooms
        if name == room or (room != "launcher" and within(name, [room]))
    ]
    return max(found)[1] if found else None


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _ours(tree: Tree) -> Iterator[Module]:
    return tree.below("launcher")


def _outside(tree: Tree, module: Module) -> Iterator[Import]:
    return (found for found in tree.imports(module) if not within(found.target, ["launcher"]))


@law
def every_file_has_a_room(tree: Tree) -> Breaches:
    for module in _ours(tree):
        if floor(module.name) is None:
            yield module.name, "stands on no floor of tests/laws/house.py"


@law
def imports_go_downwards(tree: Tree) -> Breaches:
    for module in _ours(tree):
        here = floor(module.name)
        for found in tree.imports(module):
            there = floor(found.target) if within(found.target, ["launcher"]) else None
            if here is not None and there is not None and there > here:
                yield module.name, f"line {found.line}: {found.target} is upstairs"


@law
def effects_are_strangers(tree: Tree) -> Breaches:
    """Rooms of that floor do not know each other, and an adapter knows no other adapter."""
    effects = dict(house.FLOORS)["effects"]
    for module in tree.below(*effects):
        if floor(module.name) != _level("effects") or module.name in house.NEIGHBOURS_ALLOWED:
            continue
        for found in tree.imports(module):
            if floor(found.target) != _level("effects") or found.target == module.name:
                continue
            if room(found.target) != room(module.name):
                yield module.name, f"line {found.line}: {found.target} is a stranger"
            elif room(module.name) == "launcher.providers" and not _same_adapter(module.name, found.target):
                yield module.name, f"line {found.line}: an adapter knows {found.target}"


def _level(name: str) -> int:
    return [known for known, _ in house.FLOORS].index(name)


def _same_adapter(one: str, other: str) -> bool:
    """providers/aws.py may be split into providers/aws/… or providers/aws_….py."""
    first, second = (name.split(".")[2].split("_")[0] if name.count(".") > 1 else "" for name in (one, other))
    return first == second


@law
def nobody_imports_in_circles(tree: Tree) -> Breaches:
    edges = {
        module.name: {f.target for f in tree.imports(module) if f.target in tree.modules} - {module.name}
        for module in tree.modules.values()
    }
    for name in sorted(edges):
        if name in (reached := _reach(edges, name)):
            circle = sorted(other for other in reached if name in _reach(edges, other))
            if name == circle[0]:
                yield name, f"imports itself by way of {', '.join(circle)}"


def _reach(edges: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead.extend(edges[name])
    return seen


@law
def decisions_touch_nothing(tree: Tree) -> Breaches:
    for module in tree.below(*house.PURE_ROOMS):
        for found in _outside(tree, module):
            if found.target not in house.PURE:
                yield module.name, f"line {found.line}: {found.target} is no matter of a decision"
        yield from _calls(module, house.IMPURE_CALLS, "a decision is handed what it needs")


@law
def the_engine_reaches_the_world_only_through_its_world(tree: Tree) -> Breaches:
    for module in tree.below("launcher.engine", "launcher.steps"):
        for found in tree.imports(module):
            if found.target.split(".")[0] in house.WORLDLY:
                yield module.name, f"line {found.line}: {found.target} belongs behind world"
        yield from _calls(module, frozenset({"open", "print", "utcnow", "today"}), "belongs behind world")
        for name, call in module.calls():
            if name in ("datetime.now", "datetime.datetime.now"):
                yield module.name, f"line {call.lineno}: {name}() reads a clock of its own"


def _calls(module: Module, names: frozenset[str], why: str) -> Breaches:
    for name, call in module.calls():
        if name.split(".")[-1] in names:
            yield module.name, f"line {call.lineno}: {name}(): {why}"


@law
def the_agent_is_the_standard_library_alone(tree: Tree) -> Breaches:
    for module in tree.below("launcher.agent"):
        for found in tree.imports(module):
            own = within(found.target, ["launcher.agent"])
            if not own and found.target.split(".")[0] not in sys.stdlib_module_names:
                yield module.name, f"line {found.line}: {found.target} will not be on the machine"


@law
def a_library_stays_in_its_room(tree: Tree) -> Breaches:
    for module in _ours(tree):
        for found in _outside(tree, module):
            allowed = house.LIBRARIES.get(found.target.split(".")[0])
            if allowed is not None and not _at_home(module.name, allowed):
                yield module.name, f"line {found.line}: {found.target} belongs to {', '.join(allowed)}"


def _at_home(name: str, rooms: Iterable[str]) -> bool:
    """A room that grew may have rooms beside it: providers/aws.py and providers/aws_prices.py."""
    return within(name, rooms) or any(name.startswith(f"{place}_") for place in rooms)


@law
def heavy_imports_wait_until_they_are_used(tree: Tree) -> Breaches:
    for module in _ours(tree):
        for found in tree.imports(module):
            if found.at_start and found.target.split(".")[0] in house.HEAVY:
                yield module.name, f"line {found.line}: {found.target} is paid for by every command"


@law
def a_provider_is_named_in_its_own_file_and_the_registry(tree: Tree) -> Breaches:
    for module in _ours(tree):
        for text, line in module.strings():
            named = re.match(rf"({'|'.join(house.VENDORS)})(?![\w./-])", text)
            own = named and _at_home(
                module.name, [f"launcher.providers.{named[1]}", "launcher.providers.registry"]
            )
            if named and not own:
                yield module.name, f"line {line}: names {named[1]} in {text[:40]!r}"


@law
def adapters_ask_and_never_wait(tree: Tree) -> Breaches:
    for module in tree.below("launcher.providers"):
        for name, call in module.calls():
            if name.split(".")[-1] in ("sleep", "wait_until") and module.name != "launcher.providers.wrap":
                yield module.name, f"line {call.lineno}: {name}()"


@law
def only_the_command_line_and_the_agent_end_a_process(tree: Tree) -> Breaches:
    for module in _ours(tree):
        if within(module.name, ["launcher.cli", "launcher.__main__", "launcher.agent"]):
            continue
        entry = [node for node in module.tree.body if isinstance(node, ast.If) and _is_entry(node)]
        excused = {id(node) for start in entry for node in ast.walk(start)}
        for name, call in module.calls():
            if name in ("sys.exit", "exit", "quit", "os._exit", "SystemExit") and id(call) not in excused:
                yield module.name, f"line {call.lineno}: {name}()"


def _is_entry(node: ast.If) -> bool:
    return ast.unparse(node.test) == "__name__ == '__main__'"


@law
def broad_except_is_for_the_engine_and_the_command_line(tree: Tree) -> Breaches:
    for module in tree.below("launcher", "trainers"):
        if within(module.name, ["launcher.engine", "launcher.cli"]):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler) and _broad(node.type) and not _passes_on(node):
                yield module.name, f"line {node.lineno}: catches everything"
        for name, call in module.calls():
            if name.split(".")[-1] == "suppress" and any(_broad(argument) for argument in call.args):
                yield module.name, f"line {call.lineno}: suppresses everything"


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Tidies up and lets the error go on its way."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(_broad(one) for one in caught.elts)
    return caught is None or dotted(caught) in ("Exception", "BaseException", "builtins.Exception")


@law
def every_function_says_what_it_gives(tree: Tree) -> Breaches:
    for module in tree.modules.values():
        for name, function in module.functions:
            if function.returns is None:
                yield f"{module.name}:{name}", f"line {function.lineno}: no return type"


@law
def no_file_is_too_long(tree: Tree) -> Breaches:
    for module in tree.modules.values():
        if module.lines > house.FILE_LINES:
            yield module.name, f"{module.lines} lines, at most {house.FILE_LINES}"


@law
def no_function_is_too_long(tree: Tree) -> Breaches:
    for module in tree.modules.values():
        for name, function in module.functions:
            if length(function) > house.FUNCTION_LINES:
                yield f"{module.name}:{name}", f"{length(function)} lines, at most {house.FUNCTION_LINES}"


@law
def most_functions_are_short(tree: Tree) -> Breaches:
    shape = figures(tree)
    if shape["function p90"] > house.FUNCTION_LINES_P90:
        yield "launcher", f"nine of ten functions have {shape['function p90']} lines, at most 25 wanted"


@law
def an_ignore_has_a_reason(tree: Tree) -> Breaches:
    """`# type: ignore[code]  # why` and `# noqa: CODE - why`."""
    for module in tree.modules.values():
        for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
            if token.type == tokenize.COMMENT and _silent(token.string):
                yield module.name, f"line {token.start[0]}: {token.string}"


def _silent(comment: str) -> bool:
    if re.match(r"#\s*type:\s*ignore", comment):
        return re.match(r"#\s*type:\s*ignore\[[\w, -]+\]\s*#\s*\w{2,}", comment) is None
    if re.match(r"#\s*noqa", comment, re.IGNORECASE):
        return re.match(r"#\s*noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*\W+[a-z]", comment) is None
    return False


@law
def a_module_of_ours_says_what_it_is_for(tree: Tree) -> Breaches:
    for module in _ours(tree):
        if module.tree.body and ast.get_docstring(module.tree) is None:
            yield module.name, "has no head"


def figures(tree: Tree) -> dict[str, int]:
    """The shape of the launcher, in lines."""
    files = [module.lines for module in _ours(tree) if module.lines]
    functions = [length(function) for module in _ours(tree) for _, function in module.functions]
    if len(files) < 2 or len(functions) < 2:
        return {"files": len(files), "functions": len(functions), "function p90": max(functions, default=0)}
    return {
        "files": len(files),
        "file median": round(statistics.median(files)),
        "file p90": round(statistics.quantiles(files, n=10)[-1]),
        "file largest": max(files),
        "functions": len(functions),
        "function median": round(statistics.median(functions)),
        "function p90": round(statistics.quantiles(functions, n=10)[-1]),
        "function largest": max(functions),
    }
