# Holds one booted container for as long as its standard input stays open, then takes everything back.
# Arguments: the image, a folder to mount on, the name of the machine. Prints the PID of systemd-nspawn.
# Everything is mounted in a mount namespace of its own, so nothing is left to unmount in the end.
set -eu
image=$1 scratch=$2 name=$3

# systemd 258 and newer boot on a pure cgroup v2 tree only, whatever the host has.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Two machines in one cgroup would remove each other's slices.
cgroup=/sys/fs/cgroup/$name
mkdir "$cgroup"

mount -t tmpfs -o mode=0700 tmpfs "$scratch"
mkdir -m 0755 "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$image,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
# A machine that has booted before: no first-boot presets, which would hide what a package enables itself.
tr -d - </proc/sys/kernel/random/uuid >"$scratch/root/etc/machine-id"
# mmdebstrap leaves the name of this host.
echo node >"$scratch/root/etc/hostname"
# The console is read-only, a getty on it would only come and go.
ln -s /dev/null "$scratch/root/etc/systemd/system/console-getty.service"

in_cgroup='echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 sh -c "$in_cgroup" sh "$cgroup" setpriv --pdeathsig KILL \
    systemd-nspawn -D "$scratch/root" --machine="$name" --boot --register=no --keep-unit \
    --private-network --resolv-conf=off --timezone=off --console=read-only </dev/null >&2 &
nspawn=$!
echo "$nspawn"
exec >&-

cat >/dev/null || :
echo 1 >"$cgroup/cgroup.kill"
wait "$nspawn" || :
until grep -q 'populated 0' "$cgroup/cgroup.events"; do sleep 0.02; done
find "$cgroup" -depth -type d -exec rmdir {} +
