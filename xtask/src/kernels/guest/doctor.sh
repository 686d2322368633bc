# What doctor says of this kernel, held against what can be seen without it.
uname -r
"$PORTCULLIS" doctor
"$PORTCULLIS" doctor --json >/tmp/doctor.json
cat >/tmp/held.py <<'PYTHON'
import json, os, pathlib, re, subprocess

said = json.load(open("/tmp/doctor.json"))
findings = {f["id"]: f for f in said["findings"]}
doors = {d["door"]: d["closed"] for d in said["doors"]}
release = os.uname().release
kernel = tuple(int(n) for n in re.findall(r"\d+", release)[:2])
config = pathlib.Path(f"/payload/config").read_text().splitlines()

def state(id, expected):
    assert findings[id]["state"] == expected, (id, findings[id], expected)

assert said["kernel"] == release and said["enforceable"] is True, said
for id in ("privileges", "btf", "bpffs", "hooks", "network-namespaces"):
    state(id, "good")
# systemd of this image mounts cgroup2 alone.
state("cgroups", "good")
assert "unified" in findings["cgroups"]["found"]
systemd = int(subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout.split()[1])
state("systemd", "good" if systemd >= 254 else "limited")
# The modules in force, by the kernel's own list; Debian builds BPF_LSM in and names bpf.
assert "CONFIG_BPF_LSM=y" in config
lsms = pathlib.Path("/sys/kernel/security/lsm").read_text().strip().split(",")
state("lsm", "good" if "bpf" in lsms else "limited")
mode = re.search(r"\[(\w+)\]", pathlib.Path("/sys/kernel/security/lockdown").read_text()).group(1)
state("lockdown", "good" if mode != "confidentiality" else "missing")
assert findings["lockdown"]["found"] == mode
# kernel.io_uring_disabled came with Linux 6.6.
switch = pathlib.Path("/proc/sys/kernel/io_uring_disabled")
assert switch.exists() == (kernel >= (6, 6)), kernel
state("io_uring", "limited")
assert ("cannot switch" in findings["io_uring"]["found"]) == (kernel < (6, 6))
if switch.exists():
    def uring():
        out = subprocess.run([os.environ["PORTCULLIS"], "doctor", "--json"], capture_output=True, text=True)
        again = json.loads(out.stdout)
        state = {f["id"]: f["state"] for f in again["findings"]}["io_uring"]
        return state, {d["door"]: d["closed"] for d in again["doors"]}["io-uring-socket"]
    switch.write_text("2")
    # Whatever else closes the door: what cannot be asked for needs no other answer.
    assert uring() == ("good", "sysctl"), uring()
    switch.write_text("0")
    assert uring() == ("limited", doors["io-uring-socket"]), uring()
# Modules can be loaded here, so no protocol is absent for good; and what the hooks answer is answered.
assert doors["tcp"] == "redirect" and doors["udp"] is not None and doors["sctp"] is not None, doors
assert doors["packet"] != "absent", doors
# A hook that the kernel skips while another task is interrupted in it closes nothing by itself: the system call kills.
preempt = pathlib.Path("/sys/kernel/debug/sched/preempt").read_text()
skipped = kernel >= (6, 19) or "(full)" in preempt or "(lazy)" in preempt
for door in ("packet", "ptrace", "mount-namespace"):
    assert doors[door] == ("lsm" if "bpf" in lsms or not skipped else "kill"), (door, doors[door], lsms, preempt)
print("hooks:", ",".join(lsms), preempt.strip(), doors["packet"])
# Less than root is told.
less = subprocess.run(
    ["setpriv", "--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin", os.environ["PORTCULLIS"], "doctor", "--json"],
    capture_output=True, text=True)
assert less.returncode == 1, less
privileges = {f["id"]: f for f in json.loads(less.stdout)["findings"]}["privileges"]
assert privileges["state"] == "missing" and "CAP_BPF" in privileges["found"], privileges
print("doctor is right about", release)
PYTHON
export PORTCULLIS
python3 /tmp/held.py
