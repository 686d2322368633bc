# Runs what the host wants done. The second serial port carries what it says, and its exit status in the last line.
exec >/dev/ttyS1 2>&1 </dev/null
stty -F /dev/ttyS1 raw -echo 2>/dev/null
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
cd /root
# The built programs are found at the paths at which they were built.
while read -r path; do
    mkdir -p "$path"
    mount --bind "/payload/tree$path" "$path"
done </payload/binds
sh -eu /payload/stage.sh
status=$?
sync
if [ "$status" = 75 ]; then
    # A stage that goes on after another start of the machine, which ends as the host would end it.
    echo "guest: again"
    sleep 1
    exec systemctl reboot
fi
echo "guest: exit $status"
# Unsent output would be lost.
sleep 1
systemctl poweroff --force --force
