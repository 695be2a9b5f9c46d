#!/usr/bin/env python3
"""A sensor driver and a basestation in one: publishes an image, a radar cube, a point cloud and link reports to a
unit, and prints the beam and blockage messages that come back. Needs `pip install eclipse-zenoh`.

    python3 tools/client.py [tcp/127.0.0.1:7447] [unit1] [seconds]
"""
import base64
import json
import struct
import sys
import time

import zenoh

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp/127.0.0.1:7447"
unit = sys.argv[2] if len(sys.argv) > 2 else "unit1"
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 3.0
BEAMS, RX, SAMPLES, CHIRPS = 64, 4, 64, 16

JPEG = base64.b64decode(  # 8 x 8 pixels of grey
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////"
    "////////////wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AP//Z")


def npy(dtype, shape, body):
    """A NumPy .npy file, version 1.0."""
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def cube():
    """complex64 (rx, samples, chirps): a silent scene."""
    return npy("<c8", (RX, SAMPLES, CHIRPS), bytes(8 * RX * SAMPLES * CHIRPS))


def pcd():
    """Three points, binary."""
    points = struct.pack("<9f", 1, 10, 0, -2, 20, 1, 3, 30, 2)
    return (b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 3\nHEIGHT 1\n"
            b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA binary\n" + points)


def power(best):
    """float64 (beams,) linear power."""
    return npy("<f8", (BEAMS,), struct.pack(f"<{BEAMS}d", *(1 / (1 + (b - best) ** 2) for b in range(BEAMS))))


heard = {"beam": 0, "blockage": 0}


def show(sample):
    message = json.loads(sample.payload.to_string())
    kind = str(sample.key_expr).rsplit("/", 1)[1]
    heard[kind] += 1
    print(f"{sample.key_expr} {json.dumps(message)}", flush=True)


config = zenoh.Config.from_json5(json.dumps({
    "mode": "client", "connect": {"endpoints": [endpoint]}, "scouting": {"multicast": {"enabled": False}}}))
with zenoh.open(config) as session:
    subscribers = [session.declare_subscriber(f"mmsense/{unit}/v1/ue/*/{kind}", show) for kind in heard]
    until, sequence = time.time() + seconds, 0
    while time.time() < until:
        attachment = struct.pack("<qQ", time.time_ns(), sequence)
        for key, payload, encoding in [
                ("sensor/lidar", pcd(), "application/x-pcd"),
                ("sensor/radar", cube(), "application/x-npy"),
                ("sensor/camera", JPEG, "image/jpeg"),
                ("ue/0/link/power", power(20 + sequence // 10), "application/x-npy")]:
            session.put(f"mmsense/{unit}/v1/{key}", payload, encoding=encoding, attachment=attachment)
        sequence += 1
        time.sleep(0.1)
print(f"published {sequence} of each, heard {heard}", file=sys.stderr)
sys.exit(0 if all(heard.values()) else 1)
