package nodeimage

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// required returns the version that a go.mod requires or replaces a module by.
func required(t *testing.T, file, module string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(regexp.QuoteMeta(module) + ` (v[1-9]\S*|v0\.[1-9]\S*)`).FindSubmatch(data)
	if found == nil {
		t.Fatalf("%s does not name %s", file, module)
	}
	return string(found[1])
}

// The node's Kubernetes is the sandbox's, so that Go's cache serves both and
// tests on either mean the same.
func TestVersions(t *testing.T) {
	const stock, sandbox = "../stock/go.mod", "../../sandbox/kube/go.mod"
	if v := required(t, stock, "k8s.io/kubernetes"); v != Kubernetes {
		t.Errorf("%s requires Kubernetes %s, the image says %s", stock, v, Kubernetes)
	}
	for _, module := range []string{"k8s.io/kubernetes", "go.etcd.io/etcd/server/v3", "k8s.io/apiserver => k8s.io/apiserver", "golang.org/x/net", "google.golang.org/grpc"} {
		if a, b := required(t, stock, module), required(t, sandbox, module); a != b {
			t.Errorf("%s: %s has %s, %s has %s", module, stock, a, sandbox, b)
		}
	}
}

// Files of the node lie where systemd, kubelet, containerd and kind look for them.
func TestOverlay(t *testing.T) {
	if _, err := embedded(); err != nil {
		t.Fatal(err)
	}
	own, err := embeddedFiles()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := files.ReadDir("files")
	if err != nil {
		t.Fatal(err)
	}
	if len(own)+1 != len(entries) { // containerd.toml is filled in
		t.Errorf("%d of %d files have a place", len(own), len(entries))
	}
	for _, f := range own {
		if strings.HasPrefix(f.Path, "/") || len(f.Data) == 0 {
			t.Errorf("%q: %d bytes", f.Path, len(f.Data))
		}
	}
}
