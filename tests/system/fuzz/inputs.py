"""Mutated csv, bin, json and zip bytes, determined by (seed, number) alone."""

import io
import json
import random
import struct
import zipfile

import numpy as np

SHAPE, STATES = (4, 5), 4
CHANNELS, ENVIRONMENT = ("NTC", "PM1.0", "CT1"), ("ex_temperature", "ex_humidity")
KINDS = {"csv": 40, "json": 30, "bin": 20, "zip": 10}  # percent of the inputs
TOKENS = {
    "csv": [
        b",",
        b";",
        b"\n",
        b"\r\n",
        b'"',
        b"\xef\xbb\xbf",
        b"NaN",
        b"inf",
        b"-Infinity",
        b"1e999",
        b"1_0",
        b"0x10",
        b"1,5",
        b" ",
        b"\t",
        b"\x0b",
        b"\x1c",
        b"\xc2\x85",
        b"\0",
        b"NTC",
        b"CT1",
        b",CT1",
        "１".encode(),
        b"\xff\xfe",
        b"9" * 400,
    ],
    "json": [
        b"{",
        b"}",
        b"[",
        b"]",
        b"[" * 2000,
        b'{"a":' * 500,
        b",",
        b":",
        b'"',
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"1" * 400,
        b'"state"',
        b'"state": "3",',
        b'"value": 7,',
        b"\\u0073",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b'"1"',
        b'" 1"',
        b'"1_0"',
        "１".encode(),
        b"4",
        b"-1",
    ],
    "bin": [
        b"\x93NUMPY",
        b"\x01\x00",
        b"\x02\x00",
        b"\x03\x00",
        b"\x09\x09",
        b"'descr'",
        b"'|O'",
        b"'<f8'",
        b"'>f8'",
        b"'<f4'",
        b"'<f16'",
        b"'<c16'",
        b"'<i8'",
        b"True",
        b"(5, 4)",
        b"(4, 5)",
        b"(20,)",
        b"(-4, -5)",
        b"(99999999999, 9)",
        b"\x80\x04\x95",
        b"\xff\xff",
        b"\xff\xff\xff\x7f",
        b"lambda: 0",
        b"(" * 300,
    ],
    "zip": [
        b"PK\3\4",
        b"PK\1\2",
        b"PK\5\6",
        b"PK\6\6",
        b"PK\6\7",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\xff" * 8,
        b"../",
        b"/",
        b"C:\\",
        b"\0",
        b"\x08\x00",
        b"\x0e\x00",
    ],
}


def sound(kind, rng):
    """Return a valid file in the format of the data set."""
    if kind == "csv":
        columns = [*CHANNELS, "CT2"]
        rng.shuffle(columns)
        end = rng.choice(["\n", "\r\n"])
        return (",".join(columns) + end + ",".join(f"{rng.uniform(-5, 200):.2f}" for _ in columns) + end).encode()
    if kind == "bin":
        stream, letter = io.BytesIO(), rng.choice(["<f8", "<f8", "<f4", ">f8", "<f2"])
        frame = np.array([rng.uniform(20, 90) for _ in range(SHAPE[0] * SHAPE[1])]).reshape(SHAPE).astype(letter)
        np.lib.format.write_array(stream, frame, allow_pickle=False)
        return stream.getvalue()
    content = {
        "meta_info": [{"device_id": "oht01", "location": "line 1"}],
        "sensor_data": [
            {name: [{"value": round(rng.uniform(0, 9), 2), "data_unit": "A", "trend": "0"}] for name in CHANNELS}
        ],
        "annotations": [{"tagging": [{"state": rng.choice([str(rng.randrange(4)), rng.randrange(4)])}]}],
        "external_data": [{name: [{"value": round(rng.uniform(0, 99), 1)}] for name in ENVIRONMENT}],
    }
    return json.dumps(content, indent=rng.choice([None, 2])).encode()


def zipped(files, rng):
    """Pack files, by name, into a zip with folders drawn at random."""
    stream = io.BytesIO()
    method = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    with zipfile.ZipFile(stream, "w", method) as target:
        for name, raw in files.items():
            target.writestr(rng.choice(["/", "", "a/", "../../"]) + name, raw)
    return stream.getvalue()


def sound_zips(rng):
    """Return a source and a label archive of one to three seconds; sometimes one member is mutated."""
    stems = [f"oht01_0827_1011{second:02d}" for second in range(5, 5 + rng.randrange(1, 4))]
    source = {f"{stem}.{kind}": sound(kind, rng) for stem in stems for kind in ("csv", "bin")}
    if rng.random() < 0.3:  # mutate a member inside a valid zip
        name = rng.choice(list(source))
        source[name] = mutated(source[name], name.rpartition(".")[2], rng)
    return zipped(source, rng), zipped({f"{stem}.json": sound("json", rng) for stem in stems}, rng)


def mutated(raw, kind, rng):
    """Apply one to five changes to bytes: flips, cuts, copies and tokens of the format."""
    raw = bytearray(raw)
    for _ in range(1 if rng.random() < 0.6 else rng.randrange(1, 6)):
        at, size = rng.randrange(len(raw) + 1), rng.randrange(1, 1 + max(1, min(40, len(raw))))
        match rng.randrange(9):
            case 0 if raw:
                raw[at % len(raw)] ^= 1 << rng.randrange(8)
            case 1 if raw:
                raw[at % len(raw)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x0A])
            case 2:
                del raw[at:]
            case 3:
                del raw[at : at + size]
            case 4:
                raw[at:at] = raw[at : at + size]
            case 5:
                raw[at:at] = rng.choice(TOKENS[kind])
            case 6:
                token = rng.choice(TOKENS[kind])
                raw[at : at + len(token)] = token
            case 7:
                other = rng.randrange(len(raw) + 1)
                raw[at : at + size] = raw[other : other + size]
            case 8:
                raw[at : at + 4] = struct.pack(
                    "<I", rng.choice([0, 1, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
                )
    return bytes(raw)


def make_input(seed, number):
    """Return kind and content of an input; for a zip the content is (source archive, label archive)."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "zip":
        source, labels = sound_zips(rng)
        match rng.randrange(4):
            case 0 | 1:
                source = mutated(source, "zip", rng)
            case 2:
                labels = mutated(labels, "zip", rng)
        return kind, (source, labels)
    return kind, mutated(sound(kind, rng), kind, rng) if rng.random() < 0.97 else sound(kind, rng)
