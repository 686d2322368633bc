#!/bin/busybox sh
# The first process: loads what the disks need, mounts them, and hands over to the image's own systemd.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules.order); do
    /bin/busybox insmod "/modules/$module"
done
for disk in vda vdb; do
    tries=0
    while [ ! -b "/dev/$disk" ] && [ "$tries" -lt 100 ]; do
        /bin/busybox usleep 100000
        tries=$((tries + 1))
    done
done
/bin/busybox mount -t ext4 /dev/vda /root || exit 1
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/payload || exit 1
/bin/busybox mount --bind /root/payload/modules /root/lib/modules
/bin/busybox umount /dev /sys /proc
exec /bin/busybox switch_root /root /sbin/init
