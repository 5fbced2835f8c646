"""Chat templates against transformers, and hostile ones by how they end."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bitnet_py import template_sandbox
from bitnet_py.chat_template import ChatTemplate, load_chat_template
from bitnet_py.errors import FormatError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": " What is\n2 < 3? "}
DIALOG = [
    {"role": "system", "content": "Be brief."},
    USER,
    {"role": "assistant", "content": "True & sure. "},
    {"role": "user", "content": 'Say "caf\u00e9"'},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds <two> numbers",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
    }
]

# In the manner of the templates that these models come with.
TEMPLATES = {
    "bitnet": "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = message['role'] | capitalize + ': '+ message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
    "llama2": """{% if messages[0]['role'] == 'system' %}
    {% set loop_messages = messages[1:] %}
    {% set system_message = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{% else %}
    {% set loop_messages = messages %}
    {% set system_message = '' %}
{% endif %}
{% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/...') }}
    {% endif %}
    {% set content = system_message + message['content'] if loop.first else message['content'] %}
    {%- if message['role'] == 'user' -%}
        {{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}
    {%- else -%}
        {{ ' ' + content | trim + ' ' + eos_token }}
    {%- endif -%}
{% endfor %}""",
    "llama3": """{{- bos_token }}
{%- set date = strftime_now("%Y") if strftime_now is defined else "2024" %}
{%- if tools is not none %}
    {{- "Functions:\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message.content|trim
          + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
""",
    "qwen": """{%- if tools %}
    {{- '<|im_start|>system\n# Tools\n' }}
    {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" %}
        {%- set ns.found = true %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content.strip().split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' ~ message.role ~ '\n' ~ content ~ '<|im_end|>' ~ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
{{- ns.last }}""",
    "macros": """{%- macro show(key, value) -%}
    {{ key }}={{ value | upper | replace('A', 'a') }};
{%- endmacro -%}
{% for m in messages %}{% for key, value in m.items() | sort %}{{ show(key, value) }}{% endfor %}
{% generation %}{{ m.content }}{% endgeneration %}
{% endfor %}
{{ ['a', 'b'] | join(', ') }} {{ {'k': (1, 2)} | tojson }} {{ '%s-%03d' % ('x', 7) }}
{{ '{}/{:>4}'.format('y', 5) }} {{ messages | map(attribute='role') | list }}
{% set block %}{{ messages | length }} messages{% endset %}{{ block ~ '!' }}
{{ 2 ** 10 + 3 * 4 - 7 % 4 }} {{ 'ab' * 3 }} {{ [1, 2] + [3] }} {{ none is none }}""",
}


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["", "tools"])
@pytest.mark.parametrize("add_generation_prompt", [False, True])
@pytest.mark.parametrize("messages", [[USER], DIALOG], ids=["one", "dialog"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_renders_what_transformers_renders(
    name: str, messages: list[dict[str, str]], add_generation_prompt: bool, tools: Any
) -> None:
    theirs = pytest.importorskip("transformers.utils.chat_template_utils")
    options = {"add_generation_prompt": add_generation_prompt, "tools": tools}
    rendered = theirs.render_jinja_template(
        conversations=[messages], chat_template=TEMPLATES[name], **options, **SPECIAL
    )
    expected = rendered[0] if isinstance(rendered, tuple) else rendered
    assert [ChatTemplate(TEMPLATES[name], SPECIAL).render(messages, **options)] == expected


def test_a_template_that_refuses_is_the_callers_fault() -> None:
    template = ChatTemplate(TEMPLATES["llama2"], SPECIAL)
    with pytest.raises(ValueError, match="refuses this conversation: Conversation roles") as caught:
        template.render([USER, USER])
    assert not isinstance(caught.value, FormatError)


@pytest.mark.parametrize("messages", [["hi"], [{"content": "hi"}], [{"role": 1}], [None]])
def test_messages_that_are_none(messages: Any) -> None:
    with pytest.raises(ValueError, match="expected messages with a role"):
        ChatTemplate("x").render(messages)


GROW = "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}"
MEGA = "{% set a = 'a' * 1000000 %}"
ENDLESS = "ran for more than"
LARGE = "too large"
HOSTILE = {
    "nested loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ENDLESS,
    ),
    "nested loops over a list": (
        "{% set l = range(99999) | list %}{% for a in l %}{% for b in l %}{% endfor %}{% endfor %}",
        ENDLESS,
    ),
    "long range": ("{% for a in range(10 ** 9) %}{% endfor %}", "Range too big"),
    "endless recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "branching recursion": (
        "{% macro m(n) %}{% if n < 60 %}{% set x = m(n + 1) %}{% set x = m(n + 1) %}{% endif %}"
        "{% endmacro %}{{ m(0) }}",
        ENDLESS,
    ),
    "recursive loop": ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion"),
    "recursive block": ("{% block a %}{{ self.a() }}{% endblock %}", "recursion"),
    "lazy filters": (
        "{% set ns = namespace(g=messages) %}{% for i in range(99999) %}"
        "{% set ns.g = ns.g | map('string') %}{% endfor %}{{ ns.g | list }}",
        f"{ENDLESS}|recursion",
    ),
    "tests": ("{% set l = range(99999) | list %}{{ l | reject('in', l) | list }}", ENDLESS),
    "sum of lists": ("{{ ('x ' * 99999).split() | map('list') | sum(start=[]) }}", "no numbers"),
    "sum of batches": ("{{ range(60000) | batch(1) | list | sum(start=[]) }}", "no numbers"),
    "sum of texts": ("{{ ['a'] | sum('x', 'y') }}", "no numbers"),
    "tojson indent": ("{{ range(30000) | list | tojson(indent=100000) }}", "tojson with more"),
    "tojson indent as text": (MEGA + "{{ [1] | tojson(indent=a) }}", "tojson with more"),
    "tojson separators": (
        "{{ range(3000) | list | tojson(separators=('x' * 1000000, 'y')) }}",
        "tojson with more",
    ),
    "tojson depth": (
        "{% set n = namespace(x=range(9999) | list) %}{% for i in range(300) %}"
        "{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson(indent=64) }}",
        f"{LARGE}|{ENDLESS}",
    ),
    "map center": ("{{ range(100000) | map('center', 100000) | list }}", LARGE),
    "map batch": (
        "{{ range(9999) | map('string') | map('batch', 9999, 0) | map('list') | list }}",
        LARGE,
    ),
    "title": ("{{ ('a-' * 8000000) | title }}", LARGE),
    "striptags": ("{{ ('<!---->' * 1000000) | striptags }}", LARGE),
    "letters": ("{{ ('\u4e2d' * 16000000) | list }}", LARGE),
    "joined letters": ("{{ ('\u4e2d' * 16000000) | join }}", LARGE),
    "words": ("{{ ('\u4e2d ' * 8000000).split() }}", LARGE),
    "words behind a separator": ("{{ ('\u4e2d,' * 8000000).split(',') }}", LARGE),
    "join of a range": (MEGA + "{{ range(99999) | join(a) }}", LARGE),
    "join of items": (MEGA + "{{ range(999) | map('string') | join(a) }}", LARGE),
    "join items": (MEGA + "{{ a.join(range(999) | map('string')) }}", LARGE),
    "text times": ("{{ 'a' * 10 ** 10 }}", LARGE),
    "list times": ("{{ [1] * 10 ** 9 }}", LARGE),
    "power": ("{{ 9 ** 9 ** 9 ** 9 ** 9 }}", LARGE),
    "squares": (
        "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        LARGE,
    ),
    "doubling by +": (GROW + "{% set ns.s = ns.s + ns.s %}{% endfor %}", LARGE),
    "doubling by ~": (GROW + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}", LARGE),
    "doubling by capture": (
        GROW + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
        LARGE,
    ),
    "doubling lists": (GROW + "{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}", LARGE),
    "doubling tuples": (GROW + "{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ ns.s }}", LARGE),
    "doubling dicts": (
        GROW + "{% set ns.s = {1: ns.s, 2: ns.s} %}{% endfor %}{{ ns.s | tojson }}",
        LARGE,
    ),
    "output": ("{% for a in range(99999) %}{{ 'a' * 100000 }}{% endfor %}", LARGE),
    "width of %": ("{{ '%999999999d' % 1 }}", LARGE),
    "width of % from outside": ("{{ '%*d' % (999999999, 1) }}", "width is an argument"),
    "many widths of %": ("{{ ('%9999d' * 1000000) % (1,) }}", LARGE),
    "width of format": ("{{ '{:999999999}'.format(1) }}", LARGE),
    "width of format from outside": ("{{ '{:{}}'.format(1, 99999) }}", "width is an argument"),
    "many fields of format": (MEGA + "{{ ('{0}' * 1000000).format(a) }}", LARGE),
    "format_map": ("{{ '{a:999999999}'.format_map({'a': 1}) }}", LARGE),
    "format filter": ("{{ '%999999999d' | format(1) }}", LARGE),
    "ljust": ("{{ 'a'.ljust(1000000000) }}", "ljust with 1000000000, more than 100000"),
    "center filter": ("{{ 'a' | center(1000000000) }}", "center with 1000000000"),
    "round filter": ("{{ 1 | round(1000000000, 'ceil') }}", "round with 1000000000"),
    "indent filter": ("{{ ('\n' * 1000000) | indent(99999) }}", LARGE),
    "replace": (MEGA + "{{ a.replace('a', a) }}", LARGE),
    "replace nothing": (MEGA + "{{ a.replace('', a) }}", LARGE),
    "replace filter": (MEGA + "{{ a | replace('a', a) }}", LARGE),
    "join": (MEGA + "{{ a.join(a) }}", LARGE),
    "join filter": (MEGA + "{{ a | join(a) }}", LARGE),
    "wordwrap filter": (MEGA + "{{ a | wordwrap(1, true, a) }}", LARGE),
    "expandtabs": ("{{ '\t'.expandtabs(1000000000) }}", "'expandtabs' of 'str' object is unsafe"),
    "to_bytes": ("{{ (5).to_bytes(1000000000, 'big') }}", "'to_bytes' of 'int' object is unsafe"),
    "class": ("{{ ''.__class__.__mro__ }}", "'__class__' of 'str' object is unsafe"),
    "globals": ("{{ raise_exception.__globals__.x }}", "unsafe"),
    "change messages": ("{{ messages.append(1) }}", "'append' of 'list' object is unsafe"),
    "underscore": ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "no attribute '__cl"),
    "include": ("{% include 'x' %}", "no loader"),
    "import": ("{% import 'os' as os %}", "no loader"),
    "division": ("{{ 1 / 0 }}", "division by zero"),
    "unknown variable": ("{{ tokens.first }}", "'tokens' is undefined"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_templates_end(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, message = HOSTILE[case]
    if ENDLESS in message:
        monkeypatch.setattr(template_sandbox, "RENDER_SECONDS", 0.2)
    begin = time.monotonic()
    with pytest.raises(FormatError, match=rf"^model: \w+: .*({message})"):
        ChatTemplate(text, where="model").render(DIALOG)
    assert time.monotonic() - begin < 5  # the machine may be busy; most take milliseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% for %}", "model, line 1: TemplateSyntaxError"),
        ("\n{{ x | no_such_filter }}", "model, line 2: TemplateAssertionError"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
        ("{{a}}" * 40000, "200000 bytes, more than 65536"),
    ],
    ids=["syntax", "filter", "depth", "length"],
)
def test_texts_that_are_no_template(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ChatTemplate(text, where="model")


def test_a_long_conversation_is_no_attack() -> None:
    messages = [{"role": "user", "content": "word " * 200}, DIALOG[2]] * 500
    text = ChatTemplate(TEMPLATES["llama2"], SPECIAL).render(messages)
    assert len(text) > 500_000


def test_a_conversation_beyond_all_reason() -> None:
    with pytest.raises(ValueError, match="at most 16 million characters"):
        ChatTemplate("x").render([{"role": "user", "content": "a" * (1 << 24)}])


def test_where_templates_stand(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one {{ bos_token }}"}))
    template = load_chat_template(tmp_path, SPECIAL)
    assert template is not None
    assert template.render([USER]) == "one <s>"
    named = [{"name": "default", "template": "two"}, {"name": "tool_use", "template": "tools"}]
    config.write_text(json.dumps({"chat_template": named}))
    template = load_chat_template(tmp_path)
    assert template is not None
    assert template.render([USER]) == "two"
    assert template.render([USER], tools=TOOLS) == "tools"
    assert template.render([USER], tools=TOOLS, template_name="default") == "two"
    with pytest.raises(ValueError, match="expected a template of default, tool_use, got 'rag'"):
        template.render([USER], template_name="rag")
    (tmp_path / "chat_template.jinja").write_text("three")
    (tmp_path / "chat_templates").mkdir()
    (tmp_path / "chat_templates" / "rag.jinja").write_text("rag")
    template = load_chat_template(tmp_path)
    assert template is not None
    assert template.render([USER]) == "three"
    assert template.render([USER], template_name="rag") == "rag"


def test_a_large_file_is_not_even_read(tmp_path: Path) -> None:
    with (tmp_path / "chat_template.jinja").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match=r"jinja: 1099511627776 bytes, more than 65536"):
        load_chat_template(tmp_path)


def test_many_templates_are_measured_together() -> None:
    with pytest.raises(FormatError, match="80000 bytes, more than"):
        ChatTemplate({f"t{i}": "x" * 10000 for i in range(8)})


@pytest.mark.parametrize(
    "options", ["", "indent=4", "indent='\t'", "sort_keys=true", "separators=(',', ':')", "true"]
)
def test_json_is_that_of_the_library(options: str) -> None:
    value = {"b": [1, 2.5, None, {"c": "\u00e9<"}], "a": [], "d": {}}
    words = {"true": True, "dict": dict}
    expected = eval(
        f"dumps(value, {options})", {"dumps": transformers_json, "value": value} | words
    )
    assert ChatTemplate(f"{{{{ v | tojson({options}) }}}}").render([USER], v=value) == expected


def transformers_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    options: Any = {"indent": indent, "separators": separators, "sort_keys": sort_keys}
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


@pytest.mark.parametrize("value", [5, [], [5], [{"name": "a"}], {"a": 1}])
def test_fields_that_are_no_template(tmp_path: Path, value: Any) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(FormatError, match="chat_template must be a text, or a list of"):
        load_chat_template(tmp_path)
