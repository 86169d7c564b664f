"""What playbooks and templates say about reading on this machine: judged by their texts alone, nothing is opened.

Whatever cannot be known from a text is taken for the worst that it may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText

PATH_KEY = re.compile(
    r"(^|_)(src|source|sources|file|files|template|templates|script|playbook|path_on_controller|include|role|roles|dir"
    r"|include_tasks|import_tasks|include_role|import_role|include_vars|vars_files|import_playbook|copy|unarchive|assemble"
    r"|tasks_from|vars_from|defaults_from|handlers_from|fileglob|first_found|filetree|local_path|paths|dependencies|ini"
    r"|unvault)$"
)
"""Keys whose value, where it is text or a list of texts, may be a path on this machine."""
ROLE_KEY = frozenset({"role", "roles", "include_role", "import_role", "dependencies"})
ON_GUEST = frozenset({"file", "mount", "alternatives", "replace", "lineinfile", "blockinfile", "iso_extract"})
"""Modules whose paths are the guest's, whatever they are called."""
GUEST_KEY = frozenset(
    {
        "dest", "destination", "path", "home", "chdir", "creates", "removes", "cmd", "command", "shell", "raw", "argv",
        "mode", "target",
    }
)  # fmt: skip
LOOP_KEY = re.compile(r"(loop|with_\w+)\Z")
PROSE = GUEST_KEY | {
    "name", "msg", "fail_msg", "success_msg", "description", "content", "block", "line", "comment", "prompt", "title",
}  # fmt: skip
"""Keys whose texts are no expressions but for what is in braces; any other may be one, in a `when` at the latest."""
PLAY_KEY = frozenset({"tasks", "roles", "pre_tasks", "post_tasks", "handlers", "gather_facts"})
OVER_SSH = frozenset({"ssh", "smart", "paramiko", "paramiko_ssh"})
ELSEWHERE = frozenset({"delegate_to", "local_action", "add_host", "fetch"})
"""What runs here, or leaves something here."""

COMPOSED = re.compile(r"\{\{|\{%|[*?\[]")
"""What makes a path that nobody can know beforehand: a template, or a pattern."""
UP_AND_ON = re.compile(r"\.\./*(\{\{|\{%|[*?\[]|$)")
"""A path out of a folder to nobody knows where."""
WHOLE_FOLDER = re.compile(r"\{\{\s*(playbook_dir|role_path)\s*\}\}[./\s]*\Z")
AT_HOME = re.compile(r"\A\{\{\s*(playbook_dir|role_path)\s*\}\}")
"""What begins a path in the content; what is named after it is found as any other name."""
REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://")
ENVIRONMENT = re.compile(r"\$\w|\$\{")
PAIR = re.compile(r"(?<![\w{.])(\w+)=(\"[^\"]*\"|'[^']*'|(?:\{\{.*?\}\}|\S)+)")
QUOTED = re.compile(r"(['\"])((?:(?!\1).)*)\1")
WORD = re.compile(r"[A-Za-z_]\w*")

EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
JINJA_INCLUDE = re.compile(
    r"\{%[-+]?\s*(?:include|import|extends|from)\s+"
    r"(?!(['\"])(?:(?!\1).)*\1\s*(?:[-+]?%|import\b|ignore\b|with\b|without\b|as\b))"
)
OWN_MARKS = re.compile(r"#jinja2:|\b(block|variable|comment)_(start|end)_string\b|\bline_(statement|comment)_prefix\b")
"""A template that is not written with braces."""
LOOKUP = re.compile(r"\b(?:lookup|query|q)\s*\(\s*(?:(['\"])([\w.]+)\1)?\s*,?\s*([^)]*)")
RENAMED = re.compile(r"=\s*(lookup|query|q)\s*[-+%},)]")
LITERALS = re.compile(r"\s*((?:\w+\s*=\s*)?(['\"])(?:(?!\2)[^{}])*\2\s*(,\s*|$))*\Z")
ALL_VARIABLES = re.compile(r"\bhostvars\b|\bvars\b(?!\s*:|/|\w|\.ya?ml\b)|\bvarnames\b")
_TESTS = r"(?:is_)?(?:file|exists|dir|directory|link|link_exists|mount|same_file|samefile|abs)"
_FILTERS = r"(?:fileglob|realpath|expandvars|expanduser|relpath)"
ON_CONTROLLER = re.compile(
    rf"\bis\s+(?:not\s+)?(?:ansible\.(?:builtin|legacy)\.)?{_TESTS}\b"
    rf"|\|\s*(?:ansible\.(?:builtin|legacy)\.)?{_FILTERS}\b"
    rf"|\b(?:select|reject|map)\(\s*['\"](?:ansible\.builtin\.)?(?:{_TESTS}|{_FILTERS})['\"]"
    rf"|\b(?:selectattr|rejectattr)\([^,()]*,\s*['\"](?:ansible\.builtin\.)?{_TESTS}['\"]"
)
"""Tests and filters that look at this machine's files (ansible-core, plugins/test/files.py, plugins/filter/core.py)."""
AROUND = re.compile(
    r"\b(ansible_config_file|inventory_dir|inventory_file|ansible_inventory_sources|ansible_search_path)\b"
    r"|\b(playbook_dir|role_path)\b\s*(\||\.|~|\+)"
)
"""By which a path may lead anywhere around the project."""
SUSPICIOUS = re.compile(
    r"\b(delegate_to|local_action|add_host|fetch|ansible_connection)\b|\bconnection['\"]?\s*:\s*['\"]?local"
    r"|\bhosts['\"]?\s*:\s*['\"\[]?\s*(localhost|127\.|\{\{)"
)
LOOPS = frozenset(
    {
        "items", "dict", "list", "sequence", "nested", "together", "subelements", "indexed_items", "flattened",
        "cartesian", "vars", "varnames",
    }
)  # fmt: skip
"""Lookups of values that are there already."""
FILES = frozenset({"file", "template", "fileglob", "first_found", "ini", "csvfile", "unvault", "filetree"})
"""Lookups of files on this machine."""
OWN_FILES = {"ini": "ansible.ini", "csvfile": "ansible.csv"}
"""What is read where nothing is named."""
READS = re.compile(
    r"\b(open|environ|getenv|expandvars|expanduser|subprocess|[Pp]open|system|socket|urlopen|open_url|urllib|requests"
    r"|http|pathlib|glob|listdir|scandir|walk|read_text|_find_needle|_loader|get_real_file|path_dwim\w*)\b"
)
"""By which a plugin's code gets at more than what it is given."""


@dataclass
class Reading:
    """What texts say so far. Reasons are empty where there is none."""

    whole: str = ""
    """Why every file of the content counts."""
    everything: bool = False
    """Whether that takes in what is no content else: README, tests, vars.yml."""
    outside: str = ""
    """What is read that is neither file nor variable."""
    all_variables: str = ""
    any_role: bool = False
    """Whether the name of a role is put together."""
    paths: set[str] = field(default_factory=set)
    """Absolute paths that are named."""
    opened: set[str] = field(default_factory=set)
    """Names of what a path begins with, so that it may be absolute."""
    scalars: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    """Every text with the keys that lead to it."""
    keys: set[str] = field(default_factory=set)
    text: str = ""
    """All that was read."""

    def read_yaml(self, value: Any, keys: tuple[str, ...] = ()) -> None:
        """Take a YAML document's value into account; comments are none of it."""
        self.text += "\n" + "\n".join(flatten(value))
        self._judge_value(value, keys, on_guest=False)

    def read_template(self, text: str) -> None:
        """Take any other text into account."""
        self.text += f"\n{text}"
        self._judge_names(text)
        for found in [text] if OWN_MARKS.search(text) else EXPRESSION.findall(text):
            self._judge_expression(found)

    def read_unreadable(self, text: str, why: str) -> None:
        """Take a text into account that ought to be YAML, and is not: nobody knows what it names."""
        self.read_template(text)
        self._judge_expression(text)
        self.count_all(why)
        self.all_variables = self.all_variables or why
        if found := SUSPICIOUS.search(text):
            self.leave(f"{why}, and it may run something on this machine ({found[0]})")

    def read_secret(self, name: str, text: str) -> None:
        """Take a secret's text into account, of which no reason may show anything. Ansible takes it for no template."""
        self.text += f"\n{text}"
        if text.startswith(("/", "~")):
            self.scalars.append(((name,), "/{{"))

    def count_all(self, why: str) -> None:
        """Remember why every file counts."""
        self.whole = self.whole or why

    def leave(self, why: str) -> None:
        """Remember what is read past files and variables."""
        self.outside = self.outside or why

    def _judge_value(self, value: Any, keys: tuple[str, ...], *, on_guest: bool) -> None:
        match value:
            case Mapping():
                self._judge_mapping(value, keys, on_guest)
            case list() | tuple():
                for item in value:
                    self._judge_value(item, keys, on_guest=on_guest)
            case VaultText():
                self.all_variables = self.all_variables or "an encrypted value"
            case UnsafeText():
                self.scalars.append((keys, value.text))
            case str():
                self._judge_scalar(value, keys)

    def _judge_mapping(self, value: Mapping[Any, Any], keys: tuple[str, ...], on_guest: bool) -> None:
        owner = keys[-1] if keys else ""
        stays = on_guest or owner in ON_GUEST or _is_true(value.get("remote_src"))
        if "hosts" in value and PLAY_KEY & {str(key).rpartition(".")[2] for key in value}:
            self._judge_hosts(value["hosts"])
        for key, item in value.items():
            name = str(key).rpartition(".")[2]
            self.keys.add(str(key))
            self._judge_pair(owner, str(key), item, stays)
            deeper = stays and name not in ("block", "rescue", "always", "tasks")
            self._judge_value(item, (*keys, name), on_guest=deeper)

    def _judge_hosts(self, hosts: Any) -> None:
        for text in list_texts(hosts):
            if text not in ("all", "*") and re.search(r"localhost|127\.|::1|\{\{|\{%", text):
                self.leave(f"a play may be for this machine (hosts: {shorten(text)})")

    def _judge_scalar(self, text: str, keys: tuple[str, ...]) -> None:
        self.scalars.append((keys, text))
        self._judge_names(text)
        is_prose = keys and keys[-1] in PROSE and not OWN_MARKS.search(text)
        for found in EXPRESSION.findall(text) if is_prose else [text]:
            self._judge_expression(found)

    def _judge_pair(self, owner: str, key: str, item: Any, on_guest: bool) -> None:
        name = key.rpartition(".")[2]
        if name in ELSEWHERE:
            self.leave(f"a task runs on this machine, or leaves something there ({key})")
        if name in ("connection", "ansible_connection") and _last(item) not in OVER_SSH:
            self.leave(f"a task may run on this machine ({key})")
        if name in ("ansible_host", "ansible_ssh_host"):
            self.leave(f"a task may run on another machine ({key})")
        if name in ("action", "module") and isinstance(item, str) and "{{" in item.split(" ", 1)[0]:
            self.leave(f"which module runs is known to the playbook alone: {shorten(item)}")
        if owner == "synchronize" and name == "mode" and item != "push":
            self.leave("files are brought to this machine (synchronize)")
        if OWN_MARKS.search(key):
            self.count_all(f"a template has marks of its own ({key})")
            self.all_variables = self.all_variables or key
        if key.startswith("with_"):
            self._judge_loop(key.removeprefix("with_").removeprefix("ansible.builtin."), key)
        if not on_guest:
            self._judge_paths(owner, key, item)

    def _judge_loop(self, kind: str, key: str) -> None:
        if kind not in LOOPS | FILES:
            self.leave(f"it reads more than files and variables: {key}")
        if kind in ("vars", "varnames"):
            self.all_variables = self.all_variables or key
        self.text += f"\n{OWN_FILES.get(kind, '')}"

    def _judge_paths(self, owner: str, key: str, item: Any) -> None:
        name = key.rpartition(".")[2]
        is_path = PATH_KEY.search(name) is not None
        is_role = name in ROLE_KEY or (owner in ROLE_KEY and name in ("name", "role"))
        is_script = owner == "script" and name == "cmd"
        for text in list_texts(item):
            rest = self._judge_free_form(name, text)
            if not (is_path or is_role or is_script) or not rest.strip():
                continue
            self._judge_path(key, rest.strip().split(" ", 1)[0] if "script" in (owner, name) else rest)
            self.any_role = self.any_role or (is_role and COMPOSED.search(rest) is not None)

    def _judge_free_form(self, module: str, text: str) -> str:
        """Judge the `src=... dest=...` of a task, and return the rest of the text."""
        pairs = [(name, value.strip("'\"")) for name, value in PAIR.findall(text)]
        remote = any(name == "remote_src" and _is_true(value) for name, value in pairs)
        if module not in ON_GUEST | GUEST_KEY and not remote:
            for name, value in pairs:
                if PATH_KEY.search(name) or (module in ROLE_KEY and name == "name"):
                    self._judge_path(name, value)
                    self.any_role = self.any_role or (module in ROLE_KEY and COMPOSED.search(value) is not None)
        return PAIR.sub("", text)

    def _judge_path(self, key: str, text: str) -> None:
        shown = f"{key}: {shorten(text)}"
        if REMOTE.match(text):
            return
        if ENVIRONMENT.search(text):
            self.leave(f"a path takes something of the environment: {shown}")
        if WHOLE_FOLDER.match(text) or not text.strip("./ "):
            self.everything = True
            self.count_all(f"a whole folder is named: {shown}")
        if UP_AND_ON.search(text):
            self.leave(f"a path leads out of its folder, and nobody knows where: {shown}")
        if COMPOSED.search(AT_HOME.sub("", text)):
            self._judge_composed(text, shown)
        elif text.startswith(("/", "~")):
            self.paths.add(text)

    def _judge_composed(self, text: str, shown: str) -> None:
        self.count_all(f"a path is put together: {shown}")
        if text.startswith(("/", "~")):
            if "{{" in text or "{%" in text:
                self.leave(f"a path outside of the project is put together: {shown}")
            else:
                self.paths.add(COMPOSED.split(text, maxsplit=1)[0].rpartition("/")[0] or "/")
        elif text.startswith("{") and not AT_HOME.match(text):
            self.opened |= set(WORD.findall(text.partition("}}")[0]))
            self._find_literals(text)

    def _judge_names(self, text: str) -> None:
        if found := JINJA_INCLUDE.search(text):
            self.count_all(f"a template includes what only it knows: {shorten(text, found.start())}")
        if found := OWN_MARKS.search(text):
            self.count_all(f"a template has marks of its own: {shorten(text, found.start())}")
            self.all_variables = self.all_variables or found[0]
        if found := ALL_VARIABLES.search(text):
            self.all_variables = self.all_variables or found[0]

    def _judge_expression(self, text: str) -> None:
        for found in LOOKUP.finditer(text):
            self._judge_lookup(found[2] or "", found[3], shorten(text, found.start()))
        for other in (RENAMED, ON_CONTROLLER):
            if found_other := other.search(text):
                self.leave(f"it reads more than files and variables: {shorten(text, found_other.start())}")

    def _judge_lookup(self, name: str, argument: str, shown: str) -> None:
        kind = name.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
        if kind in LOOPS:
            self.all_variables = self.all_variables or (kind if kind in ("vars", "varnames") else "")
        elif kind in FILES:
            self._judge_file_lookup(kind, argument, shown)
        else:
            self.leave(f"it reads more than files and variables: {shown}")

    def _judge_file_lookup(self, kind: str, argument: str, shown: str) -> None:
        self.text += f"\n{OWN_FILES.get(kind, '')}"
        if not LITERALS.match(argument):
            self.count_all(f"a path is put together: {shown}")
            self.opened |= set(WORD.findall(argument))
        self._find_literals(argument)
        for _, literal in QUOTED.findall(argument):
            if COMPOSED.search(literal) or UP_AND_ON.search(literal):
                self._judge_path(kind, literal)

    def _find_literals(self, text: str) -> None:
        for _, literal in QUOTED.findall(text):
            for part in (literal, *(value for _, value in PAIR.findall(literal))):
                if part.startswith(("/", "~")):
                    self._judge_path("path", part)

    def find_candidates(self) -> set[str]:
        """Return the absolute paths that a path which begins with a name can come to."""
        if not self.opened:
            return set()
        if found := AROUND.search(self.text):
            self.leave(f"a path may lead anywhere around the project ({found[0]})")
        names, found_paths = set(self.opened), set()
        while True:
            before = len(names)
            for keys, text in self.scalars:
                if self._is_candidate(keys, names):
                    names |= {word for part in EXPRESSION.findall(text) for word in WORD.findall(part)}
                    found_paths |= self._take_candidate(text)
            if len(names) == before:
                return found_paths

    def _is_candidate(self, keys: tuple[str, ...], names: set[str]) -> bool:
        if keys and keys[-1] in names:
            return True
        reached = any(key in names or LOOP_KEY.match(key) for key in keys)
        return reached and not (keys and keys[-1] in GUEST_KEY)

    def _take_candidate(self, text: str) -> set[str]:
        literals = [literal for part in EXPRESSION.findall(text) for _, literal in QUOTED.findall(part)]
        found = {part for part in (text.strip(), *literals) if part.startswith(("/", "~"))}
        if any(COMPOSED.search(part) for part in found):
            self.leave("a path that is put together may lead out of the project")
        return {part for part in found if not COMPOSED.search(part)}


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")


def _last(value: Any) -> str:
    return str(value).rpartition(".")[2]


def flatten(value: Any) -> Iterator[str]:
    """Yield every key and every value as a line."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{key}:"
            yield from flatten(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from flatten(item)
    elif isinstance(value, UnsafeText | VaultText):
        yield value.text
    elif not isinstance(value, Secret):
        yield str(value)


def list_texts(item: Any) -> Iterator[str]:
    """Yield a text, or the texts of a list; what is in mappings has keys of its own."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, UnsafeText):
        yield item.text
    elif isinstance(item, list | tuple):
        for part in item:
            yield from list_texts(part)


def shorten(text: str, start: int = 0, longest: int = 60) -> str:
    """Return the line that begins somewhere in a text, as a message can show it."""
    line = text[start:].split("\n", 1)[0].strip()
    return line if len(line) <= longest else line[: longest - 3] + "..."
