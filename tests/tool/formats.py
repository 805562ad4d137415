"""formats.py same yaml|json OURS THEIRS: whether our output is golang-dnstap's, byte for byte, but
for the text of DNS messages, keys that only we have, and the names of protocols it has none for.
formats.py parses yaml|json OURS COUNT: whether it is so many documents or lines that a parser
takes, with all addresses as text."""
import json
import re
import sys

PROTOCOLS = {b"DNSCryptUDP": b"5", b"DNSCryptTCP": b"6", b"DOQ": b"7"}


def common_yaml(text, ours):
    """Without the blocks of DNS text. Addresses and times that YAML would take for something else
    are quoted in ours only."""
    lines, inside = [], False
    for line in text.split(b"\n"):
        if inside and line.startswith(b"    "):
            continue
        inside = re.fullmatch(rb"  (query_message: \||response_message: \||policy:)", line)
        if ours and re.match(rb"extra: |  policy:|  http_protocol: ", line):
            continue
        if ours:
            line = re.sub(rb"(?<=^  socket_protocol: )\w+",
                          lambda m: PROTOCOLS.get(m[0], m[0]), line)
            line = re.sub(rb'^(  \w+_address: )"(.*)"$', rb"\1\2", line)
            line = re.sub(rb'^(  \w+_time: )"(.*)"$', rb"\1!!timestamp \2", line)
        lines.append(line)
    return lines


def common_json(text, ours):
    string = rb'"(?:[^"\\]|\\.)*"'
    text = re.sub(rb'"((?:query|response)_message)":(?!"parse failed)' + string, rb'"\1"', text)
    if ours:
        text = re.sub(rb',"(?:extra|http_protocol)":' + string, b"", text)
        text = re.sub(rb',"policy":\{(?:[^"}]|' + string + rb')*\}', b"", text)
        text = re.sub(rb'(?<="socket_protocol":")\w+', lambda m: PROTOCOLS.get(m[0], m[0]), text)
    return text.split(b"\n")


def same(kind, ours, theirs):
    common = common_yaml if kind == "yaml" else common_json
    with open(ours, "rb") as a, open(theirs, "rb") as b:
        a, b = common(a.read(), True), common(b.read(), False)
    for number, (x, y) in enumerate(zip(a, b)):
        if x != y:
            sys.exit(f"line {number} of what both have:\n{x!r}\n{y!r}")
    if len(a) != len(b):
        sys.exit(f"{len(a)} lines instead of {len(b)}")


def documents(kind, text):
    if kind == "json":
        return [json.loads(line) for line in text.decode().split("\n")[:-1]]
    import yaml
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [d for d in yaml.load_all(text.decode(), Loader=loader) if d is not None]


def parses(kind, ours, count):
    with open(ours, "rb") as f:
        parsed = documents(kind, f.read())
    if len(parsed) != int(count):
        sys.exit(f"{len(parsed)} instead of {count}")
    for document in parsed:
        message = document.get("message", {})
        for key in ("query_address", "response_address"):
            if not isinstance(message.get(key, ""), str):
                sys.exit(f"{key} is no text: {document}")


{"same": same, "parses": parses}[sys.argv[1]](*sys.argv[2:])
