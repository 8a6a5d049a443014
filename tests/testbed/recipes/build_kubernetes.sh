#!/usr/bin/env bash
# Builds Kubernetes 1.20 for the test bed from Debian's source package, once per machine: four minutes on two cores
# that have nothing else to do. It needs 4 GB of disk meanwhile, and leaves 380 MB.
#
#     build_kubernetes.sh [DIRECTORY]
#
# DIRECTORY is the cache; by default what DLHUB_TESTBED_CACHE names, else /var/cache/dlhub-testbed (for root) or
# ~/.cache/dlhub-testbed. The programs are then in DIRECTORY/kubernetes-RECIPE/bin. It may be started several times
# at once: one builds, the others wait for it.
#
# Packages: golang-go dpkg-dev gcc libc6-dev, and to run what it builds: etcd-server docker.io runc conntrack socat.
set -euo pipefail

# A change of what is built takes another number, here and in `kubernetes.py`.
recipe=1

if [[ -n "${DLHUB_TESTBED_CACHE:-}" ]]; then
    cache="$DLHUB_TESTBED_CACHE"
elif ((EUID == 0)); then
    cache=/var/cache/dlhub-testbed
else
    cache="$HOME/.cache/dlhub-testbed"
fi
cache="${1:-$cache}"
target="$cache/kubernetes-$recipe"

mkdir -p "$cache"
exec 9>"$cache/kubernetes.lock"
flock 9
[[ -e "$target/bin/kubelet" ]] && exit 0

work=$(mktemp -d "$cache/kubernetes-build.XXXXXX")
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT

# The source package, from where the machine has its packages, by lists that are this script's own: the machine's
# configuration stays as it is.
mkdir -p "$work/lists/partial" "$work/sources.d" "$work/source"
touch "$work/sources.list"
if [[ -e /etc/apt/sources.list.d/debian.sources ]]; then
    sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$work/sources.d/debian.sources"
else
    sed -n 's/^deb \(.*\) main\( .*\)\?$/deb-src \1 main/p' /etc/apt/sources.list >"$work/sources.list"
fi
apt_options=(-qq -o "Dir::State::Lists=$work/lists" -o "Dir::Etc::SourceList=$work/sources.list")
apt_options+=(-o "Dir::Etc::SourceParts=$work/sources.d" -o APT::Sandbox::User=root)
apt_options+=(-o Dir::Cache::srcpkgcache= -o Dir::Cache::pkgcache=)
apt-get "${apt_options[@]}" update
(cd "$work/source" && apt-get "${apt_options[@]}" --download-only source kubernetes)
dpkg-source --no-check --extract "$work"/source/kubernetes_*.dsc "$work/kubernetes" >/dev/null

# As Debian builds it: no modules, the source below GOPATH, everything vendored.
export GOPATH="$work/gopath" GOCACHE="$work/gocache" GO111MODULE=off CGO_ENABLED=0 GOFLAGS=
package=k8s.io/kubernetes
mkdir -p "$GOPATH/src/k8s.io" "$work/bin"
ln -s "$work/kubernetes" "$GOPATH/src/$package"
cd "$GOPATH/src/$package"

# The schema that the API server publishes is generated code, and not in the package: of every folder that asks
# for it, as it is imported.
go build -o "$work/bin/openapi-gen" $package/vendor/k8s.io/kube-openapi/cmd/openapi-gen
inputs=$(grep -rlE --include='*.go' --exclude='*_test.go' '^// ?\+k8s:openapi-gen=true' pkg staging/src/k8s.io \
    | xargs -n1 dirname | sort -u \
    | sed -e "s#^staging/src/#$package/vendor/#" -e "s#^pkg/#$package/pkg/#" \
    | grep -vE 'sample-apiserver|code-generator|kube-aggregator/pkg/apis/.*/internal|examples|testdata' \
    | paste -sd,)
mkdir -p pkg/generated/openapi
"$work/bin/openapi-gen" --logtostderr --input-dirs "$inputs" --output-package $package/pkg/generated/openapi \
    --output-file-base zz_generated.openapi --go-header-file hack/boilerplate/boilerplate.generatego.txt \
    --report-filename "$work/violations" --output-base "$GOPATH/src"

version=v1.20.2
flags="-s -w"
for variable in component-base/version.gitVersion client-go/pkg/version.gitVersion; do
    flags+=" -X $package/vendor/k8s.io/$variable=$version"
done
flags+=" -X $package/vendor/k8s.io/component-base/version.gitMajor=1"
flags+=" -X $package/vendor/k8s.io/component-base/version.gitMinor=20"
for program in kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet; do
    echo "$(date +%T) $program"
    go build -ldflags "$flags" -o "$work/bin/$program" "$package/cmd/$program"
done

# What every pod's network belongs to.
gcc -static -Os -o "$work/bin/pause" build/pause/linux/pause.c 2>/dev/null \
    || gcc -static -Os -o "$work/bin/pause" build/pause/pause.c
rm "$work/bin/openapi-gen"
mkdir -p "$target"
mv "$work/bin" "$target/"
echo "$(date +%T) built in $target"
