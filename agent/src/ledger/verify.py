#!/usr/bin/env python3
"""Checks exports, segments and live files of a Portcullis ledger with Python's standard library alone (3.8 or later).

    python3 verify.py FILE... [--key ledger.pub] [--against CHECKPOINT] [--witness KEY]

Several files of one host are checked as one chain, in any order; a directory stands for the ledger in it. Everything is
computed again from the rows, and the first thing that is not right is named. Have KEY from the host's owner, not from
the files: without it they prove only that they fit themselves. CHECKPOINT is a signed note that was kept elsewhere.
Exit code: 0 all is right, 1 something is not, 2 something could not be checked."""
import argparse, base64, contextlib, glob, hashlib, itertools, json, os, re, sqlite3, sys, unicodedata, urllib.parse, zlib
try:
    from compression import zstd  # Python 3.14
except ImportError:
    zstd = None
# Of each kind of file the tables, views and indexes, and the rows that explain them (#), by name with 12 bytes of the
# SHA-256 of their text. The test `the_script_knows_the_schema` makes these lines.
MADE = {
    "all": "agent_events=hdRMHw3DBADHtRUG approval_events=pQFJ1XeVc2gwOArO approvals=FibyVv1RMd3Qta9h changes=zGxxc-KJDjfQSqfy checkpoint=m0j9t83nLNwrGI2r entry=dFrirRnPdM-Wroaq frontier=KIujR_86q05Km55g key=m2CfslBSqiBuHmKf ledger_events=wHuvgA1bFSW793Z- operations=Jf_1RznverIDc2HF payload=YLwX1Ka-rnIq7typ payloads=38jJbAiWz-OxrXbg policy_set=4OoG3i_Bw6N9kYD2 sessions=QSZdAMslMYmmmQ3N statement=O8r18nWsELRLKzmb timestamp=qysr6D_I9pCk_NCD witness=41bNsuYrezEpTQZP workload_events=hSDhwcIWJV4ttKFD",
    "ledger": "tree=AoGgx49uZE8d8Wgk",
    "segment": "#columns=iyjpge0t-7TePxmV about=siEmRKyYdeyjqoNn columns=wWyrqVoQSPY4RK-t",
    "export": "entry_kind=hZyC0pUBjbHuZvRg entry_session=CaL-kfLaaymAKfam payload_operation=chgC_lWCxhSUpTkW",
}
N, HASH, UUID = "(0|[1-9][0-9]{0,18})", "([A-Za-z0-9+/]{43}=)", "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{9}Z"
KINDS = "approval", "operation", "outcome", "session", "workload", "change", "agent", "gap", "ledger"
CHECKPOINT = re.compile(f"(.+)\n{N}\n{HASH}\n(?:.*\n)*")
FOLLOWS = re.compile(f"portcullis key succession v1\n{N}\n(.+)\n(.+)\n")
PURGED = re.compile(f"(.+)\npayload purged\n(segment {N})\nentries {N} {N}\ncause .*\nframes {N}\nbytes {N}\ndamaged {N}\n"
                    f"places ([0-9,-]+)\nidentities ([0-9a-f]{{64}})\nat .*\nentry {UUID}\n")
SEAL = re.compile(f"(.+)\n(segment {N})\nentries {N} {N}\nframes {N} {HASH}\npolicy_sets {N} {HASH}\n")
END = 1 << 62
STUB = re.compile(f"(.+)\nentries purged\n(segment {N})\nentries {N} {N}\nroot {HASH}\n(?:.+\n){{4}}entry {UUID}\n")

class Bad(Exception):
    pass

def need(right, what):
    if not right:
        raise Bad(what)

@contextlib.contextmanager
def of(what):
    """Says what the block is about, should something be wrong in it."""
    try:
        yield
    except (Bad, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, zlib.error) as error:
        raise Bad(f"{what}: {error if type(error) is Bad else 'it has not the form that it should have'}")

def sha(data):
    return hashlib.sha256(data).digest()

# Ed25519 (RFC 8032, section 5.1); a point is X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * D * p[3] * q[3] % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P

def point(data):
    sign, y = data[31] >> 7, int.from_bytes(data, "little") & 2**255 - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    x = x if x % 2 == sign else -x % P
    return (x, y, 1, x * y % P) if (x * x - square) % P == 0 else None

BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))

def ed25519(public, message, signature):
    a, s = point(public), int.from_bytes(signature[32:], "little")
    if a is None or s >= L or len(signature) != 64:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus, total = (-a[0] % P, a[1], 1, -a[3] % P), (0, 1, 1, 0)
    table = None, BASE, minus, add(BASE, minus)
    for bit in range(252, -1, -1):  # S * B - h * A, which has to be R
        total, pick = add(total, total), (s >> bit & 1) + 2 * (h >> bit & 1)
        total = add(total, table[pick]) if pick else total
    x, y = (v * pow(total[2], -1, P) % P for v in total[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]

def b64(text):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "it is not base64")
    return data

def key_of(vkey, algorithm=1):
    """Name, id and public key of NAME+ID+BASE64(algorithm, public key) (c2sp.org/signed-note)."""
    with of(f"key '{vkey}'"):
        name, number, data = vkey.split("+", 2)
        data = b64(data)
        right = re.fullmatch(r"[^\s\x00-\x1f\x7f-\x9f]+", name) and len(data) == 33 and data[0] == algorithm
        need(right and sha(name.encode() + b"\n" + data)[:4].hex() == number, "it was changed: it is no signed-note key")
        return name, bytes.fromhex(number), data[1:]

def signed(note, vkeys):
    """The text of a signed note, and the first of the keys that signed it."""
    end = note.rfind("\n\n")
    need(end > 0 and all(c == "\n" or unicodedata.category(c) != "Cc" for c in note), "it is not a signed note")
    text, lines = note[:end + 1], [re.fullmatch("— ([^ ]+) ([^ ]+)\n", line) for line in note[end + 2:].splitlines(True)]
    lines = [(line[1], b64(line[2])) for line in lines]
    for vkey in vkeys:
        name, number, public = key_of(vkey)
        mine = [value[4:] for by, value in lines if by == name and value[:4] == number]
        need(all(ed25519(public, text.encode(), value) for value in mine), "the signature is wrong")
        if mine:
            return text, vkey
    raise Bad("there is no signature by this key")

class Tree:
    """RFC 6962, section 2.1: the roots of the perfect subtrees over what came so far, largest first."""
    def __init__(self, size, nodes):
        self.size, self.nodes = size, [nodes[i:i + 32] for i in range(0, len(nodes), 32)]
        need(size >= 0 and len(nodes) == 32 * bin(size).count("1"), "its hashes do not fit its size")

    def append(self, leaf):
        level, self.size = self.size, self.size + 1
        while level & 1:
            leaf, level = sha(b"\1" + self.nodes.pop() + leaf), level >> 1
        self.nodes.append(leaf)

    def root(self):
        root = self.nodes[-1] if self.nodes else sha(b"")
        for left in self.nodes[-2::-1]:
            root = sha(b"\1" + left + root)
        return root

def canonical(body):
    """The members of a body in the one spelling of RFC 8785, with integers alone: as it would be written again."""
    def no(text):
        raise Bad("its body is not canonical: a number is no integer of 64 bits")
    def depth(value):
        if type(value) is int and not -2**63 <= value < 2**64:
            no(value)
        inner = value.values() if type(value) is dict else value if type(value) is list else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)
    value = json.loads(body, parse_float=no, parse_constant=no)
    again = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    need(again == body and body.encode() and type(value) is dict and depth(value) <= 64, "its body is not canonical")
    return value

class Chain:
    """What goes on from file to file: the tree, operations without an outcome, keys, what others vouch for."""
    def __init__(self, key, against, witnesses):
        self.key, self.asked, self.witnesses, self.cosigners = key, witnesses, set(witnesses), set()
        self.tree, self.name = None, None
        self.against = (int(CHECKPOINT.match(against)[2]), against) if against else None
        self.running, self.earlier, self.roots, self.cosigned, self.first = {}, False, {}, [], 0
        self.known, self.after, self.signer, self.retired, self.signers = [], {}, None, set(), set()
        self.signed = self.withheld = self.frames = self.purged = self.unread = 0

    def follow(self, note):
        """A statement, signed by both, that one key follows another."""
        size, old, new = FOLLOWS.fullmatch(note[:note.rfind("\n\n") + 1]).groups()
        need(signed(note, [old]) and signed(note, [new]) and key_of(old)[0] == key_of(new)[0], "it is of two hosts")
        self.after.setdefault(old, (new, int(size)))
        line = [(o, n) for o, (n, _) in self.after.items() if o == old or n == new]
        need(line == [(old, new)] and self.after[old][1] == int(size), "a key has two successors, or follows two: a fork")
        return int(size), old, new

    def head(self, size, note):
        """A checkpoint (c2sp.org/tlog-checkpoint) over what was read so far, by the key whose turn it is."""
        text, vkey = signed(note, [key for key in (self.signer, *self.known) if key])
        origin, said, root = CHECKPOINT.fullmatch(text).groups()
        need(origin == key_of(vkey)[0], "it is of another host")
        while self.signer not in (None, vkey):
            self.retired.add(self.signer)
            self.signer, since = self.after.get(self.signer, ("nobody", size))
            need(since < size, f"the key {vkey} signed it, which did not follow the one before")
        need(vkey not in self.retired, f"the key {vkey} signed it, which had been replaced")
        need(int(said) == size == self.tree.size, f"the note is one of {said} entries")
        what = f"an entry from {self.signed} on and before {size} was changed, removed, added or moved: the signed root is another"
        need(b64(root) == self.tree.root(), what)
        self.signer, self.signed = vkey, size
        self.signers.add(vkey)

    def frame(self, place, operation, direction, number, digest, codec, size, data, purge):
        """A piece of payload: its hash, and its place among those of its operation."""
        right = place >= 0 and re.fullmatch(UUID, operation) and direction in ("up", "down") and 0 <= size
        need(right and type(digest) is bytes and len(digest) == 32 and codec in (0, 1, 2), "a column was changed")
        if data is None or purge:
            need(purge and data is None, "its bytes are missing, and the host does not declare it, or the other way round")
            purge[0].update(f"{operation} {direction} {number} {digest.hex()}\n".encode())
            purge[1:] = purge[1] + 1, purge[2] + size
            self.purged += 1
        elif codec == 1 and zstd is None:
            self.unread += 1
        else:
            if codec == 2:
                inflate = zlib.decompressobj()
                data = inflate.decompress(data, min(size, 65536) + 1)
                need(inflate.eof and not inflate.unused_data, "its bytes cannot be read as its codec says")
            data = zstd.decompress(data) if codec == 1 else data
            need(len(data) == size and sha(data) == digest, "its bytes and its hash do not belong together")
        self.frames += 1
        need(operation in self.running or self.earlier, "there is no such operation before it without an outcome")
        seen = self.running.get(operation, {}).setdefault(direction, [hashlib.sha256(), 0, 0])
        need(operation not in self.running or number == seen[1], f"its number is not the next, {seen[1]}")
        seen[0].update(digest)
        seen[1:] = seen[1] + 1, seen[2] + size

    def outcome(self, operation, payload):
        """The end of an operation: the frames that it names are those that were there."""
        need(operation in self.running or self.earlier, f"operation {operation} is not there before it without an outcome")
        need(set(payload) <= {"up", "down"}, "its payload is not well-formed")
        running = self.running.pop(operation, None)
        for direction in ("up", "down") if running is not None else ():
            seen, told = running.get(direction, (hashlib.sha256(), 0, 0)), payload.get(direction) or {"frames": 0, "bytes": 0}
            right = (told["frames"], told["bytes"]) == tuple(seen[1:]) and (not seen[1] or told["sha256"] == seen[0].hexdigest())
            need(right, f"the stored payload of operation {operation}, direction {direction}, is not the one that it names")

    def entry(self, seq, body, salt, leaf, withhold):
        need(type(leaf) is bytes and len(leaf) == 32, "its leaf hash has not the form that it should have")
        if withhold and body is None and salt is None:
            self.withheld += 1
            return
        need(type(salt) is bytes and len(salt) == 16, "its salt has not the form that it should have")
        hashed = sha(b"\0" + salt + body.encode("utf-8", "surrogateescape"))
        need(hashed == leaf, "its body, salt and leaf hash do not belong together: one of them was changed")
        m = canonical(body)
        right = re.fullmatch(UUID, m["id"]) and m["id"][14] == "7" and re.fullmatch(TIME, m["at"])
        need(right and m["kind"] in KINDS and repr(m["v"]) == "1", "one of its members is not well-formed")
        if m["kind"] == "operation":
            self.running.setdefault(m["id"], {})
        elif m["kind"] == "outcome":
            self.outcome(m["operation"], m.get("payload", {}))
        elif m["kind"] == "ledger" and m["event"] == "key_rotated":
            size, old, new = self.follow(m["detail"]["statement"])
            right = (m["detail"]["old"], m["detail"]["new"]) == (old, new) and self.signer in (None, old)
            need(right and size <= seq and {old, new} <= set(self.known), "it says that another key signs, and does not show it")
            self.retired.add(old)
            self.signer = new
        elif m["kind"] == "ledger" and m["event"] == "witnessed":
            self.witnesses.add(m["detail"]["witness"])
            mine = [size for size, line in self.cosigned if cosigned(line, m["detail"]["witness"])]
            need(m["detail"]["size"] in mine, "the cosignature that it speaks of is not in the file")

    def statements(self, notes, name, kind):
        """What the host declares of the file: what a segment holds, what was purged, which key follows which."""
        seals, purges, stub = [], [], None
        for note, in notes:
            if FOLLOWS.match(note):
                self.follow(note)
                continue
            text = signed(note, self.known)[0]
            seal, purged, stubbed = (form.fullmatch(text) for form in (SEAL, PURGED, STUB))
            need((seal or purged or stubbed) and kind != "ledger" and text.startswith(name + "\n"), "it declares something unknown")
            if seal:
                seals.append(seal)
            elif purged:
                ranges = [[int(place) for place in places.split("-")] for places in purged[9].split(",")]
                purges.append((purged, [hashlib.sha256(), 0, 0], ranges))
            else:
                need(kind == "segment" and stub is None, "it is one of another file")
                stub = stubbed
        ranges = sorted((r[0], r[-1], seen) for _, seen, places in purges for r in places)
        need(all(a[0] <= a[1] < b[0] for a, b in zip(ranges, ranges[1:])), "its purges cross each other")
        return seals, purges, stub, ranges

    def file(self, conn, kind):
        rows = lambda sql: conn.execute(sql).fetchall()
        keys = [vkey for vkey, in rows("SELECT vkey FROM key ORDER BY vkey")]
        names = [key_of(vkey)[0] for vkey in keys]
        self.known += [vkey for vkey in keys if vkey not in self.known]
        need(self.key in (None, *self.known), f"key '{self.key}': it is not among the file's keys: it is of another host")
        name = names[-1] if names else ""
        with of("table statement"):
            seals, purges, stub, purged = self.statements(rows("SELECT note FROM statement ORDER BY note"), name, kind)
        with of("table frontier"):
            ends = [Tree(*row) for row in rows("SELECT size, nodes FROM frontier ORDER BY size")]
            need(len(ends) == 2 if stub else len(ends) == 1, "it does not say once where the file begins")
        tree, before, self.tree = ends[0], self.tree, ends[0]
        first = self.signed = tree.size
        if before:
            need(name == self.name, f"it is of {name}, the file before it of {self.name}")
            need(first <= before.size, f"the entries from {before.size} on and before {first} are missing: a file between is not there")
            need(first == before.size, f"the entries from {first} on and before {before.size} are in the file before it as well")
            need(tree.nodes == before.nodes, "it goes on from other entries than those of the file before it: a fork")
        else:
            self.name, self.first, self.earlier = name, first, first > 0 and kind != "export"
        sets = rows("SELECT hash, text FROM policy_set ORDER BY hash")
        for digest, text in sets:
            with of(f"policy set {digest}"):
                need(sha(text.encode()).hex() == digest, "its text and its hash do not belong together")
        cached = dict(rows("SELECT size, nodes FROM tree WHERE one = 1") if kind == "ledger" else ())
        heads = rows("SELECT size, note FROM checkpoint ORDER BY size DESC")
        self.cosigned = rows("SELECT size, signature FROM witness ORDER BY size, signature")
        wanted = {size for size, _ in self.cosigned} | {self.against[0] if self.against else 0}

        def here():
            """What is said of the tree of this size."""
            right = tree.size not in cached or cached.pop(tree.size) == b"".join(tree.nodes)
            need(right, f"table tree: it is not the tree of the first {tree.size} entries")
            while heads and heads[-1][0] <= tree.size:
                with of(f"checkpoint of {heads[-1][0]} entries"):
                    self.head(*heads.pop())
            if tree.size in wanted:
                self.roots[tree.size] = tree.root()

        with of("table frontier"):
            need(first == 0 or heads and heads[-1][0] == first, "no checkpoint says that the file begins there")
        if first:
            here()
        if stub:
            told = int(stub[4]), int(stub[5]), b64(stub[6])
            none = not rows("SELECT seq FROM entry UNION SELECT place FROM payload LIMIT 1")
            need(none and told == (first, ends[1].size, ends[1].root()), "table statement: the purged entries are others")
            tree.size, tree.nodes, self.running, self.earlier = ends[1].size, ends[1].nodes, {}, True
            here()
        pieces = conn.execute("SELECT place, operation, direction, number, sha256, codec, size, bytes FROM payload ORDER BY place")
        lines, count, piece = hashlib.sha256(), 0, pieces.fetchone()
        entries = conn.execute("SELECT seq, body, salt, leaf FROM entry ORDER BY seq")
        for seq, body, salt, leaf in itertools.chain(entries, [(END, None, None, None)]):
            if seq == END:
                what = f"checkpoint of {heads[-1][0] if heads else 0} entries: the entries from {tree.size} on, which it covers, are missing"
                need(not heads, what)
                need(not cached, f"table tree: it is the tree of {list(cached)} entries")
            else:
                need(seq <= tree.size, f"entry {seq}: the entries from {tree.size} on, before it, are missing")
                need(seq == tree.size, f"entry {max(seq, 0)}: its place has not the form that it should have")
            while piece and piece[0] >> 20 <= seq:
                while purged and purged[0][1] < piece[0]:
                    purged.pop(0)
                with of(f"frame {piece[3]} ({piece[2]}) of operation {piece[1]}"):
                    self.frame(*piece, purged[0][2] if purged and purged[0][0] <= piece[0] else None)
                    place, operation, direction, number, digest, _, size, _ = piece
                lines.update(f"{place} {operation} {direction} {number} {digest.hex()} {size}\n".encode())
                count, piece = count + 1, pieces.fetchone()
            if seq != END:
                with of(f"entry {seq}"):
                    self.entry(seq, body, salt, leaf, kind == "export")
                tree.append(leaf)
                here()
        need(kind == "ledger" or self.signed == tree.size, f"the entries from {self.signed} on: no checkpoint covers them")
        if kind != "ledger":
            explained(rows, tree, kind)
        with of("table statement"):
            for said, (digest, frames, size), _ in purges:
                right = (frames, size, digest.hexdigest()) == (int(said[6]), int(said[7]), said[10])
                need(stub or right or kind == "export" and frames <= int(said[6]), "the purged frames are others")
            need(len(seals) == (kind == "segment"), f"there are {len(seals)} of this segment, and not one")
            hashes = sha("".join(digest + "\n" for digest, _ in sets).encode())
            for seal in seals:
                need((first, tree.size) == (int(seal[4]), int(seal[5])), "the entries are not those that it declares")
                right = (count, lines.digest()) == (int(seal[6]), b64(seal[7]))
                need(right or stub, "the frames are not those that it declares")
                need((len(sets), hashes) == (int(seal[8]), b64(seal[9])), "the policy sets are not those that it declares")
                need({seal[2]} >= {p[0][2] for p in purges} | ({stub[2]} if stub else set()), "the purges are others")
        check = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
        need(check == "ok", f"the file is damaged: {check}")

    def end(self):
        """When all files were read: the keys are one line, and what others vouch for goes with the tree."""
        line = {self.signer or self.key or (self.known or [None])[0]}
        for _ in self.after:
            line |= {key for old, (new, _) in self.after.items() for key in (old, new) if {old, new} & line}
        for key in self.known:
            need(key in line, f"key '{key}': no statement says that it follows, or is followed by, the host's other keys")
        at = self.key
        while at and at not in self.signers:
            at = self.after.get(at, (None,))[0]
        need(at or not self.key or not self.signers, f"key '{self.key}': it has signed nothing in the file")
        if self.against:
            size, note = self.against
            with of(f"the kept checkpoint of {size} entries"):
                _, vkey = signed(note, self.known)
                need(size <= self.tree.size, f"there are only {self.tree.size} entries: an older copy, or cut off")
                need(size in self.roots, f"the file begins with entry {self.first}, behind it: give the files before it")
                need(b64(CHECKPOINT.match(note)[3]) == self.roots[size], "the entries before it are others: a fork")
        for size, line in self.cosigned:
            with of(f"a witness's cosignature over {size} entries"):
                need(size <= self.tree.size, "the entries that it covers are not all there")
                told = [w for w in self.witnesses if cosigned(line, w)]
                for witness in told if size in self.roots else ():
                    name, number, public = key_of(witness, 4)
                    value = b64(line.split(" ")[2].strip())
                    text = f"{self.name}\n{size}\n{base64.b64encode(self.roots[size]).decode()}\n"
                    text = f"cosignature/v1\ntime {int.from_bytes(value[4:12], 'big')}\n{text}"
                    need(ed25519(public, text.encode(), value[12:]), "the signature is wrong")
                    self.cosigners.add(witness)
        for witness in self.asked:
            need(witness in self.cosigners, f"there is no cosignature by the witness {witness}")

def cosigned(line, witness):
    """Whether a signature line says that it is by a witness (c2sp.org/tlog-cosignature)."""
    name, number, _ = key_of(witness, 4)
    form = re.fullmatch("— ([^ ]+) ([^ ]+)\n?", line)
    return form[1] == name and b64(form[2])[:4] == number

def short(text):
    return base64.urlsafe_b64encode(sha(text.encode())[:12]).decode()

def words(kind):
    return " ".join(MADE[group] for group in {"ledger": ("all", "ledger"), "segment": ("all", "segment")}.get(kind, ("all", "segment", "export"))).split()

def kind_of(conn):
    """What a file is, by its tables, which are held against what they were made as."""
    sql = "SELECT name, type || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    found = dict(conn.execute(sql).fetchall())
    kind = "ledger" if "about" not in found else "export" if "payload_operation" in found else "segment"
    made = dict(word.split("=", 1) for word in words(kind) if word[0] != "#")
    for name in sorted(made):
        need(name in found, f"{name}: the table, view or index was removed")
        need(short(found[name]) == made[name], f"{name}: the table, view or index was changed")
    for name in sorted(found):
        need(name in made, f"{name}: the table, view or index was added")
    return kind

def explained(rows, tree, kind):
    """The rows that explain the file: known ones, and what follows from the tree."""
    for word in words(kind):
        table, made = word[1:].split("=", 1)
        if word[0] == "#":
            text = json.dumps(rows(f"SELECT * FROM {table} ORDER BY 1, 2"), ensure_ascii=False, separators=(",", ":"))
            need(short(text) == made, f"table {table}: a row was changed, added or removed")
    about = dict(rows("SELECT topic, text FROM about"))
    for topic, text in ("entries", str(tree.size)), ("root", tree.root().hex()):
        need(about.get(topic) == text, f"table about, row '{topic}': it was changed, added or removed")

def opened(path):
    """A file, read-only, with where it begins and ends."""
    need(os.path.isfile(path), "there is no such file")
    name = "file:" + urllib.parse.quote(os.path.realpath(path))
    try:
        conn = sqlite3.connect(name + "?mode=ro", uri=True, isolation_level=None)
        conn.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:  # beside it no file can be made, as reading a ledger that was written needs it
        conn = sqlite3.connect(name + "?immutable=1", uri=True, isolation_level=None)
    conn.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    form = [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    need(form == [0x504c4752, 2], f"it is no ledger of this format: application_id {form[0]}, format {form[1]}")
    conn.execute("BEGIN")
    return conn

def reach(conn):
    try:
        sizes = [size for size, in conn.execute("SELECT size FROM frontier ORDER BY size")] or [0]
        return sizes[0], conn.execute("SELECT coalesce(max(seq) + 1, ?) FROM entry", (sizes[-1],)).fetchone()[0]
    except sqlite3.Error:
        return 0, 0

def parts(path):
    """The files of the ledger in a directory; where a part is there live and sealed, the sealed one."""
    found = {name[-13:]: name for pattern in ("ledger-*.db", "segments/segment-*.db")
             for name in sorted(glob.glob(os.path.join(glob.escape(path), pattern)))}
    return [found[number] for number in sorted(found)] if os.path.isdir(path) else [path]

def verdict(files, key=None, against=None, witnesses=()):
    """`OK: ...`, `BAD: FILE: WHAT` or `CANNOT: ...`."""
    at = files[0]
    try:
        chain, found = Chain(key, against, witnesses), []
        for at in [part for path in files for part in parts(path)]:
            conn = opened(at)
            found.append((reach(conn), len(found), at, conn))
        for _, _, at, conn in sorted(found):
            kind = kind_of(conn)
            chain.file(conn, kind)
        chain.end()
    except (Bad, sqlite3.Error) as error:
        return f"BAD: {at}: {error if type(error) is Bad else f'it cannot be read: {error}'}"
    text = f"{chain.tree.size} entries, root {chain.tree.root().hex()}"
    if chain.unread:
        return f"CANNOT: {text}: {chain.unread} frames are compressed with zstd: needs Python 3.14, or the segment"
    return f"OK: {text}"

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("files", nargs="+")
    args.add_argument("--key"), args.add_argument("--against"), args.add_argument("--witness", action="append", default=[])
    args = args.parse_args()
    read = lambda path: open(path, encoding="utf-8").read() if path else None
    said = verdict(args.files, (read(args.key) or "").strip() or None, read(args.against), args.witness)
    print(said)
    sys.exit(("OK", "BAD", "CANNOT").index(said.split(":")[0]))

if __name__ == "__main__":
    main()
