#!/bin/bash
# What of this machine kind-up changes, a line for each thing, so that two runs can be compared: containers and
# networks of Docker, its processes, packet filter rules, network devices, routes, mounts and cgroups of containers.
set -euo pipefail
rules() { # of tables whose built-in chains are all that there is, nothing
    local save
    for save in iptables-save iptables-legacy-save; do
        command -v $save >/dev/null || continue
        $save 2>/dev/null | grep -v -e '^#' -e '^\*' -e '^COMMIT' -e '^:[A-Z]* ACCEPT' | sed -e 's/ \[[0-9:]*\]$//' -e "s/^/$save /" || true
    done
}
if docker version >/dev/null 2>&1; then
    docker ps -a --format 'container {{.Names}}'
    docker network ls --format 'network {{.Name}}'
    echo engine answers
fi
ps -eo comm= | grep -E '^(dockerd|containerd|containerd-shim|runc|runc-fit|docker-proxy)' | sort | uniq -c || true
rules
ip -o link 2>/dev/null | awk -F': ' '$2 ~ /^(br-|docker|veth)/ {print "device", $2}' || true
ip route 2>/dev/null | grep -E 'dev (br-|docker|veth)' || true
awk '$5 ~ /docker|containerd|isthmus-kind/ {print "mount", $5}' /proc/self/mountinfo
find /sys/fs/cgroup -maxdepth 3 -type d \( -name 'docker*' -o -name 'kubepods*' -o -name 'kubelet*' -o -name 'containerd*' \) 2>/dev/null | sed 's/^/cgroup /' | sort || true
for f in fs.inotify.max_user_instances net.ipv4.ip_forward; do
    echo "sysctl $f $(cat "/proc/sys/${f//.//}")"
done
