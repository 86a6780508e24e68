# Holds one booted container for as long as its standard input stays open, then takes everything back.
# Arguments: the image, a folder to mount on, the name of the machine (what-PID-number), and where it writes: memory or disk.
# Prints its own PID: after a reboot, too, systemd-nspawn is its child.
# Everything is mounted in a mount namespace of its own, so nothing is left to unmount in the end.
set -eu
image=$1 scratch=$2 name=$3 storage=$4

# systemd 258 and newer boot on a pure cgroup v2 tree only, whatever the host has.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Two machines in one cgroup would remove each other's slices.
cgroup=/sys/fs/cgroup/$name
mkdir "$cgroup"

case $storage in
memory) mount -t tmpfs -o mode=0700 tmpfs "$scratch" ;;
disk)
    # Of those who were killed before they could remove theirs.
    for left in "$scratch".*; do
        of=${left%-*}
        [ ! -e "$left" ] || [ -e "/proc/${of##*-}" ] || rm -rf "$left"
    done
    mkdir -m 0700 "$scratch.$name"
    mount --bind "$scratch.$name" "$scratch"
    ;;
esac
mkdir -m 0755 "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$image,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
# A machine that has booted before: no first-boot presets, which would hide what a package enables itself.
tr -d - </proc/sys/kernel/random/uuid >"$scratch/root/etc/machine-id"
# mmdebstrap leaves the name of this host. sudo wants to resolve its own, as /etc/hosts of an installed Debian does.
echo node >"$scratch/root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\tnode\n' >"$scratch/root/etc/hosts"
# The console is read-only, a getty on it would only come and go.
ln -s /dev/null "$scratch/root/etc/systemd/system/console-getty.service"

# Leaves nothing of the machine's cgroup.
emptied() {
    until grep -q 'populated 0' "$cgroup/cgroup.events"; do sleep 0.02; done
    find "$cgroup" -depth -type d -exec rmdir {} +
}

exec 3<&0
# Ends the machine when the lifeline does, also one that is just booting again.
(
    cat <&3 || :
    while kill -0 $$; do
        echo 1 >"$cgroup/cgroup.kill" || :
        sleep 0.1
    done
) >/dev/null 2>&1 &
lifeline=$!
echo $$
exec </dev/null 3<&- >&2

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY
# systemd-nspawn ends with 133 where the machine wants to boot again.
while status=0 && setpriv --pdeathsig KILL sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$cgroup" \
    systemd-nspawn -D "$scratch/root" --machine="$name" --boot --register=no --keep-unit \
    --private-network --resolv-conf=off --timezone=off --console=read-only || status=$?
do
    emptied
    [ "$status" = 133 ] || break
    mkdir "$cgroup"
done
# Its cat may outlive it for as long as the lifeline is open.
kill "$lifeline" || :
if [ "$storage" = disk ]; then
    umount -Rl "$scratch"
    rm -rf "$scratch.$name"
fi
