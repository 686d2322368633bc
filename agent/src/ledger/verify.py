#!/usr/bin/env python3
"""Checks exports, segments and live files of a Portcullis ledger with Python's standard library alone (3.8 or later).

    python3 verify.py FILE... [--key ledger.pub] [--against CHECKPOINT] [--witness KEY]

Several files of one host are checked as one chain, in any order. Everything is computed again from the rows, and the first
thing that is not right is named. Have KEY from the host's owner: without it the files only prove that they fit themselves.
CHECKPOINT is a signed note that was kept elsewhere. Exit code: 0 right, 1 bad, 2 not all could be checked."""
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
    "segment": "#about=DdbQe2dyLDZWezH5 #columns=gwiR2uXfvXrYyccQ #control_queries=NwJ6AJLY50-8qmGr #controls=k6z7YcqpvR0kHouH about=siEmRKyYdeyjqoNn columns=wWyrqVoQSPY4RK-t control_queries=sTcL_p6pufTllIfF controls=BkNoKq5G9QKuUtOz verifier=zxWy8Kbxvq0io3QO",
    "export": "#about=E3reanJaYwqrbsz_ entry_kind=hZyC0pUBjbHuZvRg entry_session=CaL-kfLaaymAKfam payload_operation=chgC_lWCxhSUpTkW",
    "search": "#columns=19gC9T_cCIaYJkzk entry_search=0L4vg5fwj73CkpCM entry_search_config=axrX3F8cHj7fu1xC entry_search_data=MX4crZBxNyFCuEp5 entry_search_docsize=joFFkb1AyYuKXCaa entry_search_idx=yhdWlguJiBScMXNR entry_text=R6bAdQ5JhQ7Kwo9f payload_search=okE1OYrh4GKtn8xH payload_search_config=qL1JQQ2UJn2Ulb6W payload_search_data=r-_qXKzdcbR5LfGA payload_search_docsize=ONwg3YJfdDQ1BLUV payload_search_idx=60T7xDny0H-BQmt4 payload_text=R3B7ddclvhZW-Qzt",
}
GROUPS = {"ledger": "all ledger", "segment": "all segment", "export": "all segment export", "search": "all segment export search"}
KINDS = "approval", "operation", "outcome", "session", "workload", "change", "agent", "gap", "ledger"
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{9}Z"
FOLLOWS = re.compile("portcullis key succession v1\n(0|[1-9][0-9]*)\n(.+)\n(.+)\n")
FRAMES = "SELECT place, operation, direction, number, sha256, codec, size, bytes FROM payload ORDER BY place"
END, MISFITS = 1 << 63, (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, zlib.error)

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
P, L, D = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493, -121665 * pow(121666, -1, 2**255 - 19)

def add(p, q):
    a, b, c = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * D * p[3] * q[3] % P
    e, f, g, h = b - a, 2 * p[2] * q[2] - c, 2 * p[2] * q[2] + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P

def point(data):
    y = int.from_bytes(data, "little") & 2**255 - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P)
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    need((x * x - square) % P == 0, "the key is no point of the curve")
    x = x if x % 2 == data[31] >> 7 else -x % P
    return x, y, 1, x * y % P

BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))

def ed25519(public, message, signature):
    (x, y, _, xy), s, total = point(public), int.from_bytes(signature[32:], "little"), (0, 1, 1, 0)
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    table = total, BASE, (-x, y, 1, -xy), add(BASE, (-x, y, 1, -xy))
    for bit in range(252, -1, -1):  # S * B - h * A, which has to be R
        total = add(add(total, total), table[(s >> bit & 1) + 2 * (h >> bit & 1)])
    x, y = (v * pow(total[2], -1, P) % P for v in total[:2])
    return len(signature) == 64 and s < L and (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]

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
    """The lines of a signed note's text, and the first of the keys that signed it."""
    end = note.rfind("\n\n") + 1
    need(end > 1 and all(c == "\n" or unicodedata.category(c) != "Cc" for c in note), "it is not a signed note")
    lines = [re.fullmatch("— ([^ ]+) ([^ ]+)\n", line).groups() for line in note[end + 1:].splitlines(True)]
    for name, number, public, vkey in [(*key_of(vkey), vkey) for vkey in vkeys]:
        mine = [b64(value)[4:] for by, value in lines if by == name and b64(value)[:4] == number]
        need(all(ed25519(public, note[:end].encode(), value) for value in mine), "the signature is wrong")
        if mine:
            return note[:end].split("\n")[:-1], vkey
    raise Bad("there is no signature by this key")

def cosigner(line, witness):
    """Whether a signature line says that it is by a witness (c2sp.org/tlog-cosignature)."""
    return line.split(" ")[1] == key_of(witness, 4)[0] and b64(line.split(" ")[2].strip())[:4] == key_of(witness, 4)[1]

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

    def head(self):
        """The last two lines of a checkpoint over it (c2sp.org/tlog-checkpoint)."""
        return [str(self.size), base64.b64encode(self.root()).decode()]

def canonical(body):
    """The members of a body in the one spelling of RFC 8785, with integers alone: as it would be written again."""
    def no(number, right=False):
        need(right, "its body is not canonical: a number is no integer of 64 bits")
        return int(number)
    def depth(value):
        inner = value.values() if type(value) is dict else value if type(value) is list else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)
    value = json.loads(body, parse_float=no, parse_constant=no, parse_int=lambda n: no(n, -2**63 <= int(n) < 2**64))
    again = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    need(again == body and body.encode() and type(value) is dict and depth(value) <= 64, "its body is not canonical")
    return value

class Chain:
    """What goes on from file to file: the tree, operations without an outcome, keys, what others vouch for."""
    def __init__(self, key, against, witnesses):
        self.key, self.against, self.asked, self.witnesses = key, against and against.split("\n"), witnesses, set(witnesses)
        self.running, self.roots, self.cosigned, self.tokens, self.cosigners = {}, {}, set(), set(), set()
        self.known, self.after, self.signer, self.retired, self.signers = [], {}, None, set(), set()
        self.tree, self.name, self.first, self.earlier, self.signed, self.unread = None, "", 0, False, 0, 0

    def follow(self, note):
        """A statement, signed by both, that one key follows another."""
        size, old, new = FOLLOWS.fullmatch(note[:note.rfind("\n\n") + 1]).groups()
        need(signed(note, [old]) and signed(note, [new]) and key_of(old)[0] == key_of(new)[0], "it is of two hosts")
        self.after.setdefault(old, (new, int(size)))
        same = [(o, n, since) for o, (n, since) in self.after.items() if o == old or n == new]
        need(same == [(old, new, int(size))], "a key has two successors, or follows two: the ledger was forked")
        return int(size), old, new

    def learn(self, conn):
        """The keys of a file, and who followed whom; the host's name."""
        keys = [vkey for vkey, in conn.execute("SELECT vkey FROM key ORDER BY vkey")]
        names = [key_of(vkey)[0] for vkey in keys]
        self.known += [vkey for vkey in keys if vkey not in self.known]
        for note, in conn.execute("SELECT note FROM statement ORDER BY note"):
            with of("table statement"):
                FOLLOWS.match(note) and self.follow(note)
        return names[-1] if names else ""

    def head(self, size, note):
        """A checkpoint over what was read so far, by the key whose turn it is."""
        lines, vkey = signed(note, [key for key in (self.signer, *self.known) if key])
        while self.signer not in (None, vkey):
            self.retired.add(self.signer)
            self.signer, since = self.after.get(self.signer, ("nobody", size))
            need(since < size, f"it is signed by the key {vkey}, which did not follow the one before")
        need(vkey not in self.retired, f"it is signed by the key {vkey}, which had been replaced")
        need(size == self.tree.size and lines[:2] == [key_of(vkey)[0], str(size)], f"the note is one of {lines[1]} entries")
        need(lines[2] == self.tree.head()[1], f"an entry from {self.signed} on and before {size} was changed, removed, added or moved")
        self.signer, self.signed = vkey, size
        self.signers.add(vkey)

    def frame(self, place, operation, direction, number, digest, codec, size, data, purge):
        """A piece of payload: its bytes, its hash, and its place among those of its operation."""
        right = place >= 0 and re.fullmatch(UUID, operation) and direction in ("up", "down") and size >= 0
        need(right and type(digest) is bytes and len(digest) == 32 and codec in (0, 1, 2), "a column was changed")
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

    def entry(self, seq, body, salt, leaf):
        need(type(salt) is bytes and len(salt) == 16, "its column 'salt' does not have the form that it should have")
        hashed = sha(b"\0" + salt + body.encode("utf-8", "surrogateescape"))
        need(hashed == leaf, "its body, salt and leaf hash do not belong together: one of them was changed")
        m = canonical(body)
        right = re.fullmatch(UUID, m["id"]) and m["id"][14] == "7" and re.fullmatch(TIME, m["at"])
        need(right and m["kind"] in KINDS and repr(m["v"]) == "1", "one of its members is not well-formed")
        event, detail = (m["event"], m.get("detail")) if m["kind"] == "ledger" else (None, None)
        if m["kind"] == "operation":
            self.running.setdefault(m["id"], {})
        elif m["kind"] == "outcome":
            self.outcome(m["operation"], m.get("payload", {}))
        elif event == "key_rotated":
            size, old, new = self.follow(detail["statement"])
            right = (detail["old"], detail["new"]) == (old, new) and self.signer in (None, old) and size <= seq
            need(right and {old, new} <= set(self.known), "it says that another key signs, and does not show it")
            self.signer = self.retired.add(old) or new
        elif event == "witnessed":
            self.witnesses.add(detail["witness"])
            said = [size for size, line in self.cosigned if cosigner(line, detail["witness"])]
            need(detail["size"] < self.first or detail["size"] in said, "the cosignature that it speaks of is not in the file")
        elif event == "timestamped":
            right = detail["size"] < self.first or (detail["size"], detail["sha256"]) in self.tokens
            need(right, "the timestamp that it speaks of is not in the file")

    def purges(self, notes, name, kind):
        """What the host declares to have purged: statements, with what is seen of each; ranges of places; a whole segment."""
        purges, ranges, stub = [], [], None
        for note in notes:
            title = note.split("\n")[1:2]
            if title == ["payload purged"] or title == ["entries purged"]:
                lines = signed(note, self.known)[0]
                said = dict(line.split(" ", 1) for line in lines[1:])
                need(lines[0] == name and kind != "ledger" and stub is None, "it is one of another file")
                stub = said if title == ["entries purged"] else None
                purges += [] if stub else [(said, [hashlib.sha256(), 0, 0])]
                places = said["places"].split(",") if not stub else ()
                ranges += [(*[int(p) for p in (place.split("-") * 2)[:2]], purges[-1][1]) for place in places]
        ranges.sort(key=lambda r: r[:2])
        need(all(a[0] <= a[1] < b[0] for a, b in zip(ranges, ranges[1:])), "its purges cross each other")
        return purges, ranges, stub

    def begin(self, first, name, kind, ends):
        """Where a file begins is where the one before it ended."""
        before, self.tree, self.signed = self.tree, ends[0], first
        if before:
            need(name == self.name, f"it is of {name}, the file before it of {self.name}")
            what = "missing: a file between is not there" if first > before.size else "in the file before it as well"
            need(first == before.size, f"the entries from {min(first, before.size)} on and before {max(first, before.size)} are {what}")
            need(self.tree.nodes == before.nodes, "it goes on from other entries than those of the file before it: a fork")
        else:
            self.name, self.first, self.earlier = name, first, first > 0 and kind != "export"

    def file(self, conn, form):
        rows, kind, name = lambda sql: conn.execute(sql).fetchall(), form.replace("search", "export"), self.learn(conn)
        notes = [note for note, in rows("SELECT note FROM statement ORDER BY note")]
        with of("table statement"):
            purges, purged, stub = self.purges(notes, name, kind)
        with of("table frontier"):
            ends = [Tree(*row) for row in rows("SELECT size, nodes FROM frontier ORDER BY size")]
            need(len(ends) == (2 if stub else 1), "it does not say once where the file begins")
        first, tree = ends[0].size, ends[0]
        self.begin(first, name, kind, ends)
        sets = rows("SELECT hash, text FROM policy_set ORDER BY hash")
        for digest, text in sets:
            with of(f"policy set {digest}"):
                need(sha(text.encode()).hex() == digest, "its text and its hash do not belong together")
        cached = dict(rows("SELECT size, nodes FROM tree WHERE one = 1") if kind == "ledger" else ())
        heads = rows("SELECT size, note FROM checkpoint ORDER BY size DESC")
        self.cosigned |= set(rows("SELECT size, signature FROM witness"))
        for size, token in rows("SELECT size, token FROM timestamp ORDER BY size, token"):
            self.tokens.add((size, sha(token).hex()))
            over = [sha(note.encode()) in token for of, note in heads if of == size]
            need(over == [True] or not over and heads and size < heads[0][0], f"a timestamp over {size} entries: it is of something else")
        wanted = {str(size) for size, _ in self.cosigned} | {self.against and self.against[1]}

        def here():
            """What is said of the tree of this size."""
            right = cached.pop(tree.size, None) in (None, b"".join(tree.nodes))
            need(right, f"table tree: it is not the tree of the first {tree.size} entries")
            while heads and heads[-1][0] <= tree.size:
                with of(f"checkpoint of {max(heads[-1][0], 0)} entries"):
                    self.head(*heads.pop())
            if str(tree.size) in wanted:
                self.roots[str(tree.size)] = tree.head()

        need(first == 0 or heads and heads[-1][0] == first, "table frontier: no checkpoint says that the file begins there")
        if first:
            here()
        if stub:
            with of("table statement"):
                need(heads and heads[0][0] == ends[1].size, "the purged entries are others")
                said = *stub["entries"].split(" "), stub["root"]
                none = not rows("SELECT seq FROM entry UNION SELECT place FROM payload LIMIT 1")
                need(none and said == (str(first), *ends[1].head()), "the purged entries are others")
            tree.size, tree.nodes, self.running, self.earlier = ends[1].size, ends[1].nodes, {}, True
            here()
        pieces, lines, count = conn.execute(FRAMES), hashlib.sha256(), 0
        piece, entries = pieces.fetchone(), conn.execute("SELECT seq, body, salt, leaf FROM entry ORDER BY seq")
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
                with of(f"frame {piece[3]} ({piece[2]}) of operation {piece[1] if type(piece[1]) is str else ''}"):
                    self.frame(*piece, purged[0][2] if purged and purged[0][0] <= piece[0] else None)
                lines.update(("%d %s %s %d %s %d\n" % (*piece[:4], piece[4].hex(), piece[6])).encode())
                count, piece = count + 1, pieces.fetchone()
            if seq != END:
                with of(f"entry {seq}"):
                    need(type(leaf) is bytes and len(leaf) == 32, "its column 'leaf' does not have the form that it should have")
                    if kind != "export" or body is not None or salt is not None:
                        self.entry(seq, body, salt, leaf)
                tree.append(leaf)
                here()
        need(kind == "ledger" or self.signed == tree.size, f"the entries from {self.signed} on: no checkpoint covers them")
        with of("table statement"):
            for said, (digest, frames, size) in purges:
                right = (str(frames), str(size), digest.hexdigest()) == (said["frames"], said["bytes"], said["identities"])
                need(stub or right or kind == "export" and frames <= int(said["frames"]), "the purged frames are others")
            policies = sha("".join(digest + "\n" for digest, _ in sets).encode())
            for note in (seals := [note for note in notes if not FOLLOWS.match(note) and note.split("\n")[1:2] not in (["payload purged"], ["entries purged"])]):
                told = signed(note, self.known)[0]
                said = dict(line.split(" ", 1) for line in told[1:])
                frames = said["frames"] if stub else f"{count} {base64.b64encode(lines.digest()).decode()}"
                held = [name, f"segment {int(said['segment'])}", f"entries {first} {tree.size}", f"frames {frames}"]
                held.append(f"policy_sets {len(sets)} {base64.b64encode(policies).decode()}")
                need(told == held, "entries, frames or policy sets of the file are not those that it declares")
                need(all(p["segment"] == said["segment"] for p in [*(p for p, _ in purges), stub or said]), "its purges are others")
            need(len(seals) == (kind == "segment"), f"there are {len(seals)} of this segment, and not one")
        if kind != "ledger":
            self.explained(rows, form, first, notes)
        check = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
        need(check == "ok", f"the file is damaged: {check}")

    def explained(self, rows, form, first, notes):
        """The rows that explain a file: known ones, and what follows from the rest of it."""
        for table, right in made(form).items():
            if table[0] == "#":
                found = rows("SELECT topic FROM about ORDER BY 1" if table == "#about" else f"SELECT * FROM {table[1:]} ORDER BY 1, 2")
                found = json.dumps(found, ensure_ascii=False, separators=(",", ":"), default=repr)
                need(short(found) == right, f"table {table[1:]}: a row was changed, added or removed")
        script = open(__file__, encoding="utf-8").read()
        carried = [text.rstrip("\n") for text, in rows("SELECT text FROM verifier")]  # sqlite3 adds a line end
        need(carried == [script.rstrip("\n")], "table verifier: it is another script than this one")
        about, size = dict(rows("SELECT topic, text FROM about")), self.tree.size
        with of("table about"):
            right = about["file"] == form.replace("search", "export") and about["format"] == "2" and about["key"] in self.known
            right = right and (about["first"], about["entries"], about["root"]) == (str(first), str(size), self.tree.root().hex())
            need(right, "it is about another file, or about other entries")
            selected = f"{rows('SELECT count(body) FROM entry')[0][0]} of {size - first} entries have "
            need(about.get("selected", selected).startswith(selected), "other entries have their body than it tells of")
            number = "segment " + about.get("segment", "")
            need(form != "segment" or number in [note.split("\n")[1] for note in notes], "it is about another segment")

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
            size = self.against[1]
            with of(f"the kept checkpoint of {size} entries"):
                need(signed("\n".join(self.against), self.known), "")
                need(int(size) <= self.tree.size, f"there are only {self.tree.size} entries: an older copy, or they were cut off")
                need(size in self.roots, f"the file begins with entry {self.first}, behind it: give the files before it, too")
                need(self.against[1:3] == self.roots[size], "the entries before it are others: a fork, or rewritten")
        for size, line in sorted(self.cosigned):
            with of(f"a witness's cosignature over {size} entries"):
                need(size <= self.tree.size, "the entries that it covers are not all there")
                value = b64(re.fullmatch("— [^ ]+ ([^ \n]+)\n?", line)[1])
                for witness in [w for w in self.witnesses if str(size) in self.roots and cosigner(line, w)]:
                    text = ["cosignature/v1", f"time {int.from_bytes(value[4:12], 'big')}", self.name, *self.roots[str(size)], ""]
                    need(value[4:12] != bytes(8), "it says no time")
                    need(ed25519(key_of(witness, 4)[2], "\n".join(text).encode(), value[12:]), "the signature is wrong")
                    self.cosigners.add(witness)
        for witness in self.asked:
            need(witness in self.cosigners, f"there is no cosignature by the witness {witness}")

def short(text):
    return base64.urlsafe_b64encode(sha(text.encode())[:12]).decode()

def made(form):
    return dict(word.split("=", 1) for group in GROUPS[form].split() for word in MADE[group].split())

def form_of(conn):
    """What a file is, by its tables, which have to be those that were made."""
    sql = "SELECT name, type || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE substr(name, 1, 7) <> 'sqlite_'"
    found = {name: short(text) for name, text in conn.execute(sql)}
    form = "search" if "entry_search" in found else "export"
    form = "ledger" if "about" not in found else form if "payload_operation" in found else "segment"
    right = {name: value for name, value in made(form).items() if name[0] != "#"}
    for name in [*sorted(right), *sorted(found)]:
        what = "added" if name not in right else "removed" if name not in found else "changed"
        need(found.get(name) == right.get(name), f"{name}: the table, view or index was {what}")
    return form

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
            chain.file(conn, form_of(conn))
        chain.end()
    except (Bad, sqlite3.Error) as error:
        return f"BAD: {at}: {error if type(error) is Bad else f'it cannot be read: {error}'}"
    finally:
        for _, _, _, _, conn in found:
            conn.close()
    text = f"{chain.tree.size} entries, root {chain.tree.root().hex()}"
    return f"CANNOT: {text}: {chain.unread} frames are in zstd: needs Python 3.14, or the segment" if chain.unread else f"OK: {text}"

if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("files", nargs="+", metavar="FILE")
    args.add_argument("--key"), args.add_argument("--against"), args.add_argument("--witness", action="append", default=[])
    args = args.parse_args()
    key, kept, *keys = [path and open(path, encoding="utf-8").read() for path in (args.key, args.against, *args.witness)]
    said = verdict(args.files, key and key.strip(), kept, [witness.strip() for witness in keys])
    print(said)
    sys.exit(("OK", "BAD", "CANNOT").index(said.split(":")[0]))
