"""``--format``: the subset of Go's templates, each case as Go prints it."""

from __future__ import annotations

from typing import Any

import pytest

from minidock.cli.templates import Template, TemplateError

CONTAINER = {
    "Name": "/web",
    "State": {"Status": "running", "Running": True, "Pid": 7},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"tier": "web", "a.b": "c"}},
    "Mounts": [{"Source": "/a"}, {"Source": "/b"}],
    "Ports": {"80/tcp": [{"HostPort": "8080"}]},
    "Nothing": None,
    "Ratio": 1.5,
    "Big": 10**9,
    "Label": {"tier": "web"}.get,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("{{ .State.Status }}", "running"),
        ("{{.State.Running}} {{.State.Pid}} {{.Ratio}} {{.Big}}", "true 7 1.5 1000000000"),
        ("{{.Nothing}}", "<no value>"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a.b:c tier:web]"),
        ("{{json .State}}", '{"Pid":7,"Running":true,"Status":"running"}'),
        ("{{json .Name}}", '"/web"'),
        ('{{json "<&>"}}', '"<&>"'),
        ('{{index .Config.Labels "a.b"}}', "c"),
        ('{{index .Config.Labels "missing"}}', ""),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{(index .Mounts 0).Source}}", "/a"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/a;/b;"),
        ("{{range $i, $m := .Mounts}}{{if $i}},{{end}}{{$m.Source}}{{end}}", "/a,/b"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a.b=c tier=web "),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ('{{if eq .Name "/db"}}a{{else if eq .Name "/web"}}b{{else}}c{{end}}', "b"),
        ('{{if and .State.Running (ne .State.Status "paused")}}yes{{end}}', "yes"),
        ("{{if not .Nothing}}no{{end}}{{if or .Nothing .Name}}or{{end}}", "noor"),
        ("{{with .State}}{{.Status}} of {{$.Name}}{{end}}", "running of /web"),
        ("{{with .Nothing}}x{{else}}y{{end}}", "y"),
        ('{{$n := .Name}}{{$n | upper}} {{.Name | printf "%-6s|"}}', "/WEB /web  |"),
        ('{{join .Config.Env "+"}}', "A=1+B=2"),
        ('{{index (split "a:b" ":") 1}} {{upper "x"}}{{lower "Y"}}{{title "z"}}', "b XyZ"),
        ("{{len .Mounts}}", "2"),
        ('{{truncate "abcdef" 3}}{{pad "x" 1 2}}.', "abc x  ."),
        ('{{printf "%s-%d-%q-%v-%%" "a" 5 "b" .State.Running}}', 'a-5-"b"-true-%'),
        ('{{println "a" 1}}.', "a 1\n."),
        ("a  {{- .State.Pid -}}  b", "a7b"),
        ("a{{/* a comment */}}b", "ab"),
        ("{{`raw \\n`}}", "raw \\n"),
        ('{{.Label "tier"}}', "web"),
        ('{{slice "abcdef" 1 3}}', "bc"),
        ("{{if gt .State.Pid 5}}big{{end}}{{if le .State.Pid 7}}le{{end}}", "bigle"),
        ("{{.}}", None),
    ],
)
def test_renders_as_go_does(template: str, expected: str | None) -> None:
    shown = Template(template).render(CONTAINER)
    assert expected is None or shown == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{.Name",
        "{{}}",
        "{{if .Name}}x",
        "{{end}}",
        "{{else}}",
        "{{nosuch .Name}}",
        "{{.Name | }}",
        "{{.NoSuch}}",
        "{{.Name.More}}",
        "{{$undefined}}",
        "{{index .Mounts 9}}",
        "{{(index .Mounts 0}}",
        "{{.Name ;}}",
        "{{len 5}}",
        "{{join}}",
        '{{.Name "argument"}}',
    ],
)
def test_says_what_is_wrong(template: str) -> None:
    with pytest.raises(TemplateError, match="template"):
        Template(template).render(CONTAINER)


def test_json_of_a_row_leaves_out_what_only_a_template_can_call() -> None:
    row: dict[str, Any] = {"B": "1", "A": "ü", "Label": len}
    assert Template("{{json .}}").render(row) == '{"A":"ü","B":"1"}'
