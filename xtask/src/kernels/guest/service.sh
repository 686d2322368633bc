# The package in a fresh Debian: installed, started, a unit tagged, upgraded, started again with the machine, removed.
# Two starts of one machine; which one this is says a file on its disk.
say() { echo "-- $*"; }
fail() {
    echo "FAILED: $*"
    journalctl -b --no-pager -u portcullis.service -u bot.service -u traffic.service | tail -n 60
    exit 1
}
# Until a condition holds: NAME SECONDS COMMAND...
until_true() {
    what=$1
    left=$2
    shift 2
    while ! "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "$what"
        sleep 1
    done
}
masked() { grep -q 'ada' /var/lib/bot/out && ! grep -q 'ada@example.com' /var/lib/bot/out && grep -q '\[masked:email\]' /var/lib/bot/out; }
plain() { grep -q 'ada@example.com' /var/lib/bot/out; }
enforced() { portcullis status | grep -q 'Everything is enforced'; }
settled() { [ "$(systemctl show -P ActiveState "$1")" != activating ]; }
bot() {
    rm -f /var/lib/bot/out
    systemctl restart bot.service
}

if [ ! -e /var/lib/guest.second ]; then
    say "a site: issuer, upstream, two units that talk to it"
    mkdir -p /srv/site /var/lib/bot
    cp /payload/site.py /payload/traffic.py /srv/site/
    cp /payload/units/*.service /etc/systemd/system/
    echo "192.0.2.2 api.internal" >>/etc/hosts
    python3 /srv/site/site.py make
    # As an admin would have added the company's own authority.
    cp /srv/site/ca.pem /usr/local/share/ca-certificates/example.crt
    update-ca-certificates >/dev/null
    systemctl daemon-reload
    systemctl enable --now --quiet site.service
    until_true "the site does not answer" 60 curl -sf https://api.internal/people
    bot || fail "the unit does not run untagged"
    plain || fail "untagged, it sees something else: $(cat /var/lib/bot/out)"

    say "install"
    dpkg -i /payload/first.deb || fail "dpkg -i"
    ! systemctl is-active --quiet portcullis.service || fail "started without being asked"
    ! systemctl is-enabled --quiet portcullis.service || fail "enabled without being asked"
    portcullis doctor >/tmp/doctor || fail "doctor: $(cat /tmp/doctor)"
    cp /payload/portcullis.toml /etc/portcullis/portcullis.toml
    systemctl enable --now --quiet portcullis.service || fail "it does not start"
    until_true "not everything is enforced: $(portcullis status)" 60 enforced

    say "tag"
    portcullis tag --unit bot.service --workload bot || fail "tag --unit"
    portcullis tag --unit traffic.service --workload bot || fail "tag --unit"
    bot || fail "the tagged unit does not start"
    masked || fail "what the tagged unit sees is not masked: $(cat /var/lib/bot/out)"

    say "upgrade under traffic"
    rm -f /var/lib/bot/traffic
    systemctl start traffic.service
    until_true "no traffic" 60 grep -q '^ok 5$' /var/lib/bot/traffic
    dpkg -i /payload/second.deb || fail "dpkg -i of the second build"
    [ "$(dpkg-query -W -f '${Version}' portcullis)" = "$(cat /payload/second.version)" ] || fail "not upgraded"
    until_true "not enforced after the upgrade" 60 enforced
    done_before=$(grep -c '^ok' /var/lib/bot/traffic)
    until_true "no traffic after the upgrade" 60 sh -c "[ \$(grep -c '^ok' /var/lib/bot/traffic) -gt $((done_before + 5)) ]"
    systemctl stop traffic.service
    ! grep -v '^ok' /var/lib/bot/traffic || fail "dropped during the upgrade"
    grep -q '^ok slow' /var/lib/bot/traffic || fail "the long answer did not come through"
    say "$(grep -c '^ok' /var/lib/bot/traffic) requests, none failed"

    say "start again, with the unit enabled"
    systemctl enable --quiet bot.service
    rm -f /var/lib/bot/out
    touch /var/lib/guest.second
    exit 75
fi

say "after the start of the machine"
systemctl is-active --quiet portcullis.service || fail "not started with the machine"
until_true "the unit has not run" 60 settled bot.service
masked || fail "the first request after the start was not masked: $(cat /var/lib/bot/out)"
first=$(systemctl show -P ActiveEnterTimestampMonotonic portcullis.service)
then=$(systemctl show -P ExecMainStartTimestampMonotonic bot.service)
[ "$first" -lt "$then" ] || fail "the unit ran before enforcement: $first, $then"

say "without the daemon there is no unit"
systemctl mask --now --quiet --runtime portcullis.service portcullis.socket
! bot 2>/dev/null || fail "a tagged unit starts without enforcement"
[ ! -e /var/lib/bot/out ] || fail "it ran"
systemctl unmask --quiet --runtime portcullis.service portcullis.socket
systemctl start portcullis.service || fail "it does not start again"
bot || fail "the unit does not start again"
masked || fail "not masked after another start"

say "remove"
portcullis untag --unit bot.service || fail "untag --unit"
portcullis untag --unit traffic.service || fail "untag --unit"
dpkg --purge portcullis || fail "dpkg --purge"
for left in /etc/portcullis /var/lib/portcullis /run/portcullis /sys/fs/bpf/portcullis /usr/bin/portcullis \
    /etc/systemd/system/bot.service.d /etc/systemd/system/traffic.service.d; do
    [ ! -e "$left" ] || fail "left behind: $left"
done
! systemctl list-unit-files --no-legend | grep portcullis || fail "units left behind"
! systemctl list-units --all --no-legend 'portcullis*' | grep -v not-found | grep portcullis || fail "units left in memory"
# No program is attached any more: the kernel answers as before.
bot || fail "the unit does not run after the removal"
plain || fail "after the removal it sees something else: $(cat /var/lib/bot/out)"
say "nothing is left behind"
