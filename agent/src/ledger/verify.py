#!/usr/bin/env python3
"""Checks exports, segments and live files of a Portcullis ledger with Python's standard library alone (3.8 or later).

    python3 verify.py FILE... [--key ledger.pub] [--against CHECKPOINT] [--witness KEY]

Several files of one host are checked as one chain, in any order. Everything is computed again from the rows, and the
first thing that is not right is named. Have KEY from the host's owner: without it the files only prove that they fit
themselves. CHECKPOINT is a signed note that was kept elsewhere. Exit code: 0 right, 1 bad, 2 not all could be checked."""
import argparse, base64, contextlib, hashlib, itertools, json, os, re, sqlite3, sys, unicodedata, urllib.parse, zlib
try:
    from compression import zstd  # Python 3.14
except ImportError:
    zstd = None
# What sqlite_master has in each kind of file, and the rows that explain it (#): 12 bytes of the SHA-256 of each. The test
# `the_script_knows_the_schema` makes these lines.
MADE = {
    "all": "access_used=aC1jRJ0RBu5Dnsnr agent_events=hdRMHw3DBADHtRUG approval_events=pQFJ1XeVc2gwOArO approvals=FibyVv1RMd3Qta9h changes=zGxxc-KJDjfQSqfy checkpoint=m0j9t83nLNwrGI2r configuration_changes=nCiAbkvh1krepSpj credential_events=rqIagmxMIHaIHp9N credentials_used=-VU1rFR1ejtALKVo destinations=75U7-G9Ovr0Nw81g entry=dFrirRnPdM-Wroaq exports=VqvGiq13TY-g1T_V frontier=KIujR_86q05Km55g gaps_and_failures=sAAqjGvUd_n4LX3p identity_lifecycle=xqQH9PaS1FXH_J1t key=m2CfslBSqiBuHmKf ledger_events=wHuvgA1bFSW793Z- operations=SLEfQTCp6M8UnieX payload=YLwX1Ka-rnIq7typ payloads=DAtTX62drfE1ooj2 policies_in_force=D0xW4nLR5d9pHJ3f policy_set=4OoG3i_Bw6N9kYD2 sensitive_data=OuavOWES8jU6zuV2 sessions=QSZdAMslMYmmmQ3N statement=O8r18nWsELRLKzmb timestamp=qysr6D_I9pCk_NCD tls_state=ByJ54R_q07jcA7sV what_was_denied=-9Xf5C6U5KoSdEA0 what_was_done=bER3n-w5i7Qvt_e4 who_approved_what=z7go0-qegnc-KXZp who_may_do_what=Qa2ST543eY2qD468 witness=41bNsuYrezEpTQZP workload_events=hSDhwcIWJV4ttKFD",
    "ledger": "tree=AoGgx49uZE8d8Wgk",
    "segment": "#columns=3oi81Zsb3UOwzuzz #control_queries=dUTFzkYw6ipTLcLG #controls=3iAvGhNepxa6JumS about=siEmRKyYdeyjqoNn columns=wWyrqVoQSPY4RK-t control_queries=sTcL_p6pufTllIfF controls=BkNoKq5G9QKuUtOz",
    "export": "entry_kind=hZyC0pUBjbHuZvRg entry_session=CaL-kfLaaymAKfam payload_operation=chgC_lWCxhSUpTkW",
}
GROUPS = {"ledger": ("all", "ledger"), "segment": ("all", "segment"), "export": ("all", "segment", "export")}
GROUPS["export with search"] = *GROUPS["export"], "search"
KINDS = "approval", "operation", "outcome", "session", "workload", "change", "agent", "gap", "ledger"
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{9}Z"
FOLLOWS = re.compile("portcullis key succession v1\n(0|[1-9][0-9]*)\n(.+)\n(.+)\n")
MISFITS = ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, zlib.error
END = 1 << 63

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
    except (Bad, *MISFITS) as error:
        raise Bad(f"{what}: {error if type(error) is Bad else 'it does not have the form that it should have'}")

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
    a, s, total = point(public), int.from_bytes(signature[32:], "little"), (0, 1, 1, 0)
    if a is None or s >= L or len(signature) != 64:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus = -a[0] % P, a[1], 1, -a[3] % P
    table = total, BASE, minus, add(BASE, minus)
    for bit in range(252, -1, -1):  # S * B - h * A, which has to be R
        total = add(add(total, total), table[(s >> bit & 1) + 2 * (h >> bit & 1)])
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
        right = re.fullmatch(r"[^\s\x00-\x1f\x7f-\x9f]+", name) and len(b64(data)) == 33 and b64(data)[0] == algorithm
        need(right and sha(name.encode() + b"\n" + b64(data))[:4].hex() == number, "it was changed: it is no key")
        return name, bytes.fromhex(number), b64(data)[1:]

def signed(note, vkeys):
    """The text of a signed note, and the first of the keys that signed it."""
    end = note.rfind("\n\n")
    need(end > 0 and all(c == "\n" or unicodedata.category(c) != "Cc" for c in note), "it is not a signed note")
    text = note[:end + 1]
    lines = [re.fullmatch("— ([^ ]+) ([^ ]+)\n", line).groups() for line in note[end + 2:].splitlines(True)]
    for name, number, public, vkey in [(*key_of(vkey), vkey) for vkey in vkeys]:
        mine = [b64(value)[4:] for by, value in lines if by == name and b64(value)[:4] == number]
        need(all(ed25519(public, text.encode(), value) for value in mine), "the signature is wrong")
        if mine:
            return text, vkey
    raise Bad("there is no signature by this key")

def head_of(text):
    """Origin, size and root of a checkpoint (c2sp.org/tlog-checkpoint)."""
    origin, size, root = text.split("\n")[:3]
    need(str(int(size)) == size and len(b64(root)) == 32, "it is no checkpoint")
    return origin, int(size), b64(root)

class Tree:
    """RFC 6962, section 2.1: the roots of the perfect subtrees over what came so far, largest first."""
    def __init__(self, size, nodes):
        need(size >= 0 and len(nodes) == 32 * bin(size).count("1"), "its hashes do not fit its size")
        self.size, self.nodes = size, [nodes[i:i + 32] for i in range(0, len(nodes), 32)]

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
        inner = value.values() if type(value) is dict else value if type(value) is list else None
        return no(value) if type(value) is int and not -2**63 <= value < 2**64 else \
            0 if inner is None else 1 + max(map(depth, inner), default=0)
    value = json.loads(body, parse_float=no, parse_constant=no)
    again = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    need(again == body and body.encode() and type(value) is dict and depth(value) <= 64, "its body is not canonical")
    return value

class Chain:
    """What goes on from file to file: the tree, operations without an outcome, keys, what others vouch for."""
    def __init__(self, key, against, witnesses):
        self.key, self.against, self.asked, self.witnesses, self.tree, self.name = key, against, witnesses, set(witnesses), None, ""
        self.running, self.earlier, self.first, self.roots, self.cosigned, self.cosigners = {}, False, 0, {}, set(), set()
        self.tokens = set()
        self.known, self.after, self.signer, self.retired, self.signers = [], {}, None, set(), set()
        self.signed = self.withheld = self.frames = self.purged = self.unread = 0

    def follow(self, note):
        """A statement, signed by both, that one key follows another."""
        size, old, new = FOLLOWS.fullmatch(note[:note.rfind("\n\n") + 1]).groups()
        need(signed(note, [old]) and signed(note, [new]) and key_of(old)[0] == key_of(new)[0], "it is of two hosts")
        self.after.setdefault(old, (new, int(size)))
        same = [(o, n, since) for o, (n, since) in self.after.items() if o == old or n == new]
        need(same == [(old, new, int(size))], "a key has two successors, or follows two: the ledger was forked")
        return int(size), old, new

    def learn(self, conn):
        """The keys of a file, and who followed whom."""
        for vkey, in conn.execute("SELECT vkey FROM key ORDER BY vkey"):
            name = key_of(vkey)[0]
            self.known += [vkey] if vkey not in self.known else []
        for note, in conn.execute("SELECT note FROM statement ORDER BY note"):
            with of("table statement"):
                FOLLOWS.match(note) and self.follow(note)
        return name if self.known else ""

    def head(self, size, note):
        """A checkpoint over what was read so far, by the key whose turn it is."""
        text, vkey = signed(note, [key for key in (self.signer, *self.known) if key])
        origin, said, root = head_of(text)
        while self.signer not in (None, vkey):
            self.retired.add(self.signer)
            self.signer, since = self.after.get(self.signer, ("nobody", size))
            need(since < size, f"it is signed by the key {vkey}, which did not follow the one before")
        need(vkey not in self.retired, f"it is signed by the key {vkey}, which had been replaced")
        need(origin == key_of(vkey)[0] and said == size == self.tree.size, f"the note is one of {said} entries")
        need(root == self.tree.root(), f"an entry from {self.signed} on and before {size} was changed, removed, added or moved")
        self.signer, self.signed = vkey, size
        self.signers.add(vkey)

    def frame(self, place, operation, direction, number, digest, codec, size, data, purge):
        """A piece of payload: its bytes, its hash, and its place among those of its operation."""
        right = place >= 0 and re.fullmatch(UUID, operation) and direction in ("up", "down") and size >= 0
        need(right and type(digest) is bytes and len(digest) == 32 and codec in (0, 1, 2), "a column was changed")
        self.frames, self.purged = self.frames + 1, self.purged + (data is None)
        if purge:
            need(data is None, "the host declares that its bytes were purged, and there are bytes")
            purge[0].update(f"{operation} {direction} {number} {digest.hex()}\n".encode())
            purge[1:] = purge[1] + 1, purge[2] + size
        elif codec == 1 and zstd is None:
            self.unread += 1
        else:
            need(data is not None, "its bytes are missing, and the host does not declare that they were purged")
            if codec == 2:
                inflate = zlib.decompressobj()
                data = inflate.decompress(data, min(size, 65536) + 1)
                need(inflate.eof and not inflate.unused_data, "its bytes cannot be read as its codec says")
            data = zstd.decompress(data) if codec == 1 else data
            need(len(data) == size and sha(data) == digest, "its bytes, size and hash do not belong together")
        need(operation in self.running or self.earlier, "there is no such operation before it without an outcome")
        seen = self.running.get(operation, {}).setdefault(direction, [hashlib.sha256(), 0, 0])
        need(number == seen[1] or operation not in self.running, f"its number is not the next, {seen[1]}")
        seen[0].update(digest)
        seen[1:] = seen[1] + 1, seen[2] + size

    def outcome(self, operation, payload):
        """The end of an operation: the frames that it names are those that were there."""
        need(operation in self.running or self.earlier, f"operation {operation} is not there before it without an outcome")
        need(set(payload) <= {"up", "down"}, "its payload is not well-formed")
        running = self.running.pop(operation, None)
        for direction in ("up", "down") if running is not None else ():
            digest, frames, size = running.get(direction, (hashlib.sha256(), 0, 0))
            told = payload.get(direction) or {"frames": 0, "bytes": 0}
            right = (told["frames"], told["bytes"]) == (frames, size) and (not frames or told["sha256"] == digest.hexdigest())
            need(right, f"the stored payload of operation {operation}, direction {direction}, is not the one that it names")

    def entry(self, seq, body, salt, leaf, export):
        need(type(leaf) is bytes and len(leaf) == 32, "its column 'leaf' does not have the form that it should have")
        if export and body is None and salt is None:
            self.withheld += 1
            return
        need(type(salt) is bytes and len(salt) == 16, "its column 'salt' does not have the form that it should have")
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
            right = (m["detail"]["old"], m["detail"]["new"]) == (old, new) and self.signer in (None, old) and size <= seq
            need(right and {old, new} <= set(self.known), "it says that another key signs, and does not show it")
            self.retired.add(old)
            self.signer = new
        elif m["kind"] == "ledger" and m["event"] == "witnessed":
            self.witnesses.add(m["detail"]["witness"])
            said = [size for size, line in self.cosigned if cosigner(line, m["detail"]["witness"])]
            need(m["detail"]["size"] in said, "the cosignature that it speaks of is not in the file")
        elif m["kind"] == "ledger" and m["event"] == "timestamped":
            token = m["detail"]["size"], m["detail"]["sha256"]
            need(token in self.tokens, "the timestamp that it speaks of is not in the file")

    def statements(self, notes, name, kind):
        """What the host declares to have purged from the file; the other statements are looked at when it was read."""
        seals, purges, ranges, stub = [], [], [], None
        for note, in notes:
            title = note.split("\n")[1:2]
            if title == ["payload purged"] or title == ["entries purged"]:
                lines = signed(note, self.known)[0].split("\n")
                said = dict(line.split(" ", 1) for line in lines[1:-1])
                need(lines[0] == name and kind != "ledger", "it is one of another file")
                if title == ["payload purged"]:
                    purges.append((said, [hashlib.sha256(), 0, 0]))
                    places = [[int(place) for place in places.split("-")] for places in said["places"].split(",")]
                    ranges += [(place[0], place[-1], purges[-1][1]) for place in places]
                else:
                    need(kind == "segment" and stub is None, "it is one of another file")
                    stub = said
            elif not FOLLOWS.match(note):
                seals.append(note)
        ranges.sort(key=lambda r: r[:2])
        need(all(a[0] <= a[1] < b[0] for a, b in zip(ranges, ranges[1:])), "its purges cross each other")
        return seals, purges, ranges, stub

    def file(self, conn, kind):
        rows, form, kind = lambda sql: conn.execute(sql).fetchall(), kind, kind.split(" ")[0]
        name = self.learn(conn)
        with of("table statement"):
            seals, purges, purged, stub = self.statements(rows("SELECT note FROM statement ORDER BY note"), name, kind)
        with of("table frontier"):
            ends = [Tree(*row) for row in rows("SELECT size, nodes FROM frontier ORDER BY size")]
            need(len(ends) == (2 if stub else 1), "it does not say once where the file begins")
        tree, before, self.tree = ends[0], self.tree, ends[0]
        first = self.signed = tree.size
        if before:
            need(name == self.name, f"it is of {name}, the file before it of {self.name}")
            what = "missing: a file between is not there" if first > before.size else "in the file before it as well"
            need(first == before.size, f"the entries from {min(first, before.size)} on and before {max(first, before.size)} are {what}")
            need(tree.nodes == before.nodes, "it goes on from other entries than those of the file before it: a fork")
        else:
            self.name, self.first, self.earlier = name, first, first > 0 and kind != "export"
        sets = rows("SELECT hash, text FROM policy_set ORDER BY hash")
        for digest, text in sets:
            with of(f"policy set {digest}"):
                need(sha(text.encode()).hex() == digest, "its text and its hash do not belong together")
        cached = dict(rows("SELECT size, nodes FROM tree WHERE one = 1") if kind == "ledger" else ())
        heads = rows("SELECT size, note FROM checkpoint ORDER BY size DESC")
        self.cosigned |= set(rows("SELECT size, signature FROM witness"))
        self.tokens |= {(size, sha(token).hex()) for size, token in rows("SELECT size, token FROM timestamp")}
        for size, token in rows("SELECT size, token FROM timestamp ORDER BY size, token"):
            notes = [note for of, note in heads if of == size]
            right = sha(notes[0].encode()) in token if notes else size <= max(heads, default=(0,))[0]
            need(right, f"a timestamp over {size} entries: it is of something else")
        wanted = {size for size, _ in self.cosigned} | ({head_of(self.against)[1]} if self.against else set())

        def here():
            """What is said of the tree of this size."""
            right = cached.pop(tree.size, None) in (None, b"".join(tree.nodes))
            need(right, f"table tree: it is not the tree of the first {tree.size} entries")
            while heads and heads[-1][0] <= tree.size:
                with of(f"checkpoint of {max(heads[-1][0], 0)} entries"):
                    self.head(*heads.pop())
            if tree.size in wanted:
                self.roots[tree.size] = tree.root()

        with of("table frontier"):
            need(first == 0 or heads and heads[-1][0] == first, "no checkpoint says that the file begins there")
        if first:
            here()
        if stub:
            with of("table statement"):
                said = *map(int, stub["entries"].split(" ")), b64(stub["root"])
                right = said == (first, ends[1].size, ends[1].root()) and heads and heads[0][0] == ends[1].size
                need(right and not rows("SELECT seq FROM entry UNION SELECT place FROM payload LIMIT 1"), "the purged entries are others")
            tree.size, tree.nodes, self.running, self.earlier = ends[1].size, ends[1].nodes, {}, True
            here()
        entries = conn.execute("SELECT seq, body, salt, leaf FROM entry ORDER BY seq")
        pieces = conn.execute("SELECT place, operation, direction, number, sha256, codec, size, bytes FROM payload ORDER BY place")
        piece, lines, count = pieces.fetchone(), hashlib.sha256(), 0
        for seq, body, salt, leaf in itertools.chain(entries, [(END, None, None, None)]):
            if seq == END:
                for size, _ in heads[-1:]:
                    raise Bad(f"checkpoint of {size} entries: the entries from {tree.size} on, which it covers, are missing")
                need(not cached, f"table tree: it is not the tree of the first {tree.size} entries")
            else:
                need(seq >= 0, "entry 0: its column 'seq' does not have the form that it should have")
                need(seq == tree.size, f"entry {seq}: the entries from {tree.size} on, before it, are missing")
            while piece and piece[0] >> 20 <= seq:
                while purged and purged[0][1] < piece[0]:
                    purged.pop(0)
                with of(f"frame {piece[3]} ({piece[2]}) of operation {piece[1]}"):
                    self.frame(*piece, purged[0][2] if purged and purged[0][0] <= piece[0] else None)
                lines.update(("%d %s %s %d %s %d\n" % (*piece[:4], piece[4].hex(), piece[6])).encode())
                count, piece = count + 1, pieces.fetchone()
            if seq != END:
                with of(f"entry {seq}"):
                    self.entry(seq, body, salt, leaf, kind == "export")
                tree.append(leaf)
                here()
        if kind != "ledger":
            need(self.signed == tree.size, f"the entries from {self.signed} on: no checkpoint covers them")
            explained(rows, tree, form, first, self.known)
        with of("table statement"):
            for said, (digest, frames, size) in purges:
                right = (str(frames), str(size), digest.hexdigest()) == (said["frames"], said["bytes"], said["identities"])
                need(stub or right or kind == "export" and frames <= int(said["frames"]), "the purged frames are others")
            for note in seals:
                text = signed(note, self.known)[0]
                said = dict(line.split(" ", 1) for line in text.split("\n")[1:-1])
                number, frames = int(said["segment"]), said["frames"] if stub else f"{count} {enc(lines.digest())}"
                policies = f"{len(sets)} {enc(sha(''.join(digest + chr(10) for digest, _ in sets).encode()))}"
                held = f"{name}\nsegment {number}\nentries {first} {tree.size}\nframes {frames}\npolicy_sets {policies}\n"
                need(held == text, "entries, frames or policy sets of the file are not those that it declares")
                need(all(int(of["segment"]) == number for of in [*(p[0] for p in purges), stub or said]), "its purges are others")
            need(len(seals) == (kind == "segment"), f"there are {len(seals)} of this segment, and not one")
        check = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
        need(check == "ok", f"the file is damaged: {check}")

    def end(self):
        """After the last file: the keys are one line, and what others vouch for goes with the tree."""
        line = {self.signer or self.key or (self.known or [None])[0]}
        for _ in self.after:
            line |= {key for old, (new, _) in self.after.items() if {old, new} & line for key in (old, new)}
        for key in self.known:
            need(key in line, f"key '{key}': no statement says that it follows, or is followed by, the host's other keys")
        at = self.key
        while at and at not in self.signers:
            at = self.after.get(at, (None,))[0]
        need(at or not self.key or not self.signers, f"key '{self.key}': it has signed nothing in the file")
        if self.against:
            size = head_of(self.against)[1]
            with of(f"the kept checkpoint of {size} entries"):
                need(signed(self.against, self.known), "")
                need(size <= self.tree.size, f"there are only {self.tree.size} entries: an older copy, or they were cut off")
                need(size in self.roots, f"the file begins with entry {self.first}, behind it: give the files before it, too")
                need(head_of(self.against)[2] == self.roots[size], "the entries before it are others: a fork, or rewritten")
        for size, line in sorted(self.cosigned):
            with of(f"a witness's cosignature over {size} entries"):
                need(size <= self.tree.size, "the entries that it covers are not all there")
                need(re.fullmatch("— [^ ]+ [^ ]+\n?", line), "it is no signature line")
                for witness in [w for w in self.witnesses if size in self.roots and cosigner(line, w)]:
                    value = b64(line.split(" ")[2].strip())
                    text = f"cosignature/v1\ntime {int.from_bytes(value[4:12], 'big')}\n{self.name}\n{size}\n{enc(self.roots[size])}\n"
                    need(ed25519(key_of(witness, 4)[2], text.encode(), value[12:]), "the signature is wrong")
                    self.cosigners.add(witness)
        for witness in self.asked:
            need(witness in self.cosigners, f"there is no cosignature by the witness {witness}")

def cosigner(line, witness):
    """Whether a signature line says that it is by a witness (c2sp.org/tlog-cosignature)."""
    return line.split(" ")[1] == key_of(witness, 4)[0] and b64(line.split(" ")[2].strip())[:4] == key_of(witness, 4)[1]

def enc(data):
    return base64.b64encode(data).decode()

def short(text):
    return base64.urlsafe_b64encode(sha(text.encode())[:12]).decode()

def made(kind):
    return dict(word.split("=", 1) for group in GROUPS[kind] for word in MADE[group].split())

def kind_of(conn):
    """What a file is, by its tables, which have to be those that were made."""
    sql = "SELECT name, type || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE substr(name, 1, 7) <> 'sqlite_'"
    found = {name: short(text) for name, text in conn.execute(sql)}
    kind = "ledger" if "about" not in found else "export" if "payload_operation" in found else "segment"
    kind += " with search" if kind == "export" and "entry_search" in found else ""
    right = {name: value for name, value in made(kind).items() if name[0] != "#"}
    for name in [*sorted(right), *sorted(found)]:
        what = "added" if name not in right else "removed" if name not in found else "changed"
        need(found.get(name) == right.get(name), f"{name}: the table, view or index was {what}")
    return kind

def explained(rows, tree, kind, first, keys):
    """The rows that explain a file: known ones, and what follows from the rest of it."""
    for table, right in made(kind).items():
        if table[0] == "#":
            columns, order = ("topic", "1") if table == "#about" else ("*", "1, 2")
            found = rows(f"SELECT {columns} FROM {table[1:]} ORDER BY {order}")
            found = short(json.dumps(found, ensure_ascii=False, separators=(",", ":"), default=repr))
            need(found == right, f"table {table[1:]}: a row was changed, added or removed")
    if "verifier" in made(kind):  # this script, as it came with the file
        right = open(__file__, encoding="utf-8").read()
        need([text for text, in rows("SELECT text FROM verifier")] == [right], "table verifier: it is another script")
    about, bodies = dict(rows("SELECT topic, text FROM about")), rows("SELECT count(body) FROM entry")[0][0]
    numbers = [note.split("\n")[1] for note, in rows("SELECT note FROM statement") if note.split("\n")[1][:8] == "segment "]
    with of("table about"):
        need((about["file"], about["format"]) == (kind.split(" ")[0], "2") and about["key"] in keys, "it is about another file")
        right = (about["first"], about["entries"], about["root"]) == (str(first), str(tree.size), tree.root().hex())
        need(right, "the entries and the root are not those that it tells of")
        selected = f"{bodies} of {tree.size - first} entries have "
        need(kind == "segment" or about["selected"].startswith(selected), "other entries have their body than it tells of")
        need(kind != "segment" or ["segment " + about["segment"]] == numbers, "it is about another segment")

def opened(path):
    need(os.path.isfile(path), "there is no such file")
    conn = sqlite3.connect(f"file:{urllib.parse.quote(os.path.realpath(path))}?mode=ro", uri=True, isolation_level=None)
    conn.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    form = [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    need(form == [0x504c4752, 2], f"it is no ledger of this format: application_id {form[0]}, format {form[1]}")
    conn.execute("BEGIN")
    return conn

def verdict(files, key=None, against=None, witnesses=()):
    """`OK: ...`, `BAD: FILE: WHAT` or `CANNOT: ...`."""
    at, chain, found = files[0], Chain(key, against, witnesses), []
    try:
        for at in files:
            conn, sizes, last = opened(at), [0], 0
            with contextlib.suppress(sqlite3.Error, Bad):  # what is wrong there is said when its turn comes
                sizes = [size for size, in conn.execute("SELECT size FROM frontier ORDER BY size")] or sizes
                last = conn.execute("SELECT coalesce(max(seq) + 1, ?) FROM entry", sizes[-1:]).fetchone()[0]
                chain.learn(conn)
            found.append((sizes[0], last, len(found), at, conn))
        need(key in (None, *chain.known), f"key '{key}': it is not among the file's keys: it is of another host")
        for _, _, _, at, conn in sorted(found):
            chain.file(conn, kind_of(conn))
        chain.end()
    except (Bad, sqlite3.Error) as error:
        return f"BAD: {at}: {error if type(error) is Bad else f'it cannot be read: {error}'}"
    text = f"{chain.tree.size} entries, root {chain.tree.root().hex()}"
    return f"CANNOT: {text}: {chain.unread} frames are in zstd: needs Python 3.14, or the segment" if chain.unread else f"OK: {text}"

if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("files", nargs="+")
    args.add_argument("--key"), args.add_argument("--against"), args.add_argument("--witness", action="append", default=[])
    args = args.parse_args()
    key, kept, *keys = [path and open(path, encoding="utf-8").read() for path in (args.key, args.against, *args.witness)]
    said = verdict(args.files, key and key.strip(), kept, [witness.strip() for witness in keys])
    print(said)
    sys.exit(("OK", "BAD", "CANNOT").index(said.split(":")[0]))
