#!/bin/bash
# Boot a real systemd in namespaces of its own over a throw-away copy of this machine's files, run a check in it, end.
# Used by test_real_systemd.py: boot.sh PROJECT SITE-PACKAGES PYTHON-PREFIX OUT
set -eu
project=$1 site=$2 python=$3 out=$4
mount --make-rprivate /
stage=$(mktemp -d)
mount -t tmpfs tmpfs "$stage"
mkdir "$stage"/{up,work,root,out}
mount --bind "$out" "$stage/out"
mount -t overlay overlay -o "lowerdir=/,upperdir=$stage/up,workdir=$stage/work" "$stage/root"
cd "$stage/root"
mkdir -p opt/mirror/bin opt/mirror/site opt/mirror/project opt/mirror/python opt/mirror/out etc/mirror old
mount --bind "$site" opt/mirror/site
mount --bind "$project" opt/mirror/project
mount --bind "$python" opt/mirror/python
mount --bind "$stage/out" opt/mirror/out
cat > opt/mirror/bin/python <<'END'
#!/bin/sh
export LD_LIBRARY_PATH=/opt/mirror/python/lib PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=/opt/mirror/project:/opt/mirror/project/tests:/opt/mirror/site
exec /opt/mirror/python/bin/python3 "$@"
END
printf '#!/bin/sh\nexec /opt/mirror/bin/python -m mirror "$@"\n' > opt/mirror/bin/mirror
chmod 755 opt/mirror/bin/*
cp -a "$out/installed/." .
cp "$out/mirror.toml" etc/mirror/mirror.toml
rm -f bin/kill usr/bin/kill
printf '[Service]\nType=notify\nExecStart=/opt/mirror/bin/python /opt/mirror/out/index.py\n' > etc/systemd/system/index.service
printf '[Service]\nType=oneshot\nExecStart=/bin/bash /opt/mirror/out/check.sh\nExecStopPost=/bin/systemctl --no-block exit\n' \
    > etc/systemd/system/check.service
printf '[Unit]\nWants=check.service systemd-journald.service\nAllowIsolate=yes\n' > etc/systemd/system/check.target
for unit in systemd-udevd systemd-udev-trigger systemd-modules-load systemd-remount-fs systemd-logind systemd-networkd \
    systemd-resolved systemd-timesyncd systemd-pstore systemd-random-seed; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
pivot_root . old
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
for place in /run /tmp; do mount -t tmpfs tmpfs $place; done
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup || true
mount --rbind /old/dev /dev
umount -l /old
# As systemd itself does outside of a container: credentials are mounted by a process with mounts of its own.
mount --make-rshared /
ip link set lo up
export container=other
exec /lib/systemd/systemd --unit=check.target --log-target=console --show-status=0
