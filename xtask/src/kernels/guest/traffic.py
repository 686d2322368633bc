"""Requests one after the other, each on a connection of its own, and one long answer beside them. One line for each."""

import subprocess, threading

lock = threading.Lock()
out = open("/var/lib/bot/traffic", "a", buffering=1)


def say(line):
    with lock:
        out.write(line + "\n")


def get(path):
    curl = ["curl", "-sS", "--max-time", "60", f"https://api.internal{path}"]
    return subprocess.run(curl, capture_output=True, text=True)


def slow():
    while True:
        got = get("/slow")
        whole = "".join(f"piece {i}\n" for i in range(10))
        say("ok slow" if got.stdout == whole else f"slow: {got.returncode} {got.stdout!r} {got.stderr!r}")


threading.Thread(target=slow, daemon=True).start()
count = 0
while True:
    got = get("/people")
    count += 1
    right = got.returncode == 0 and "[masked:email]" in got.stdout
    say(f"ok {count}" if right else f"{count}: {got.returncode} {got.stdout!r} {got.stderr!r}")
