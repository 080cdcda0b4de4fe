package cri

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestRepositoryOf(t *testing.T) {
	for ref, want := range map[string]string{
		"isthmus-mesh/isthmusd":                  "isthmus-mesh/isthmusd",
		"isthmus-mesh/isthmusd:v1":               "isthmus-mesh/isthmusd",
		"host:5000/isthmus-mesh/isthmusd:v1":     "host:5000/isthmus-mesh/isthmusd",
		"host:5000/isthmus-mesh/isthmusd":        "host:5000/isthmus-mesh/isthmusd",
		"isthmus-mesh/isthmusd@sha256:abc":       "isthmus-mesh/isthmusd",
		"host:5000/a/isthmusd:v1@sha256:0000000": "host:5000/a/isthmusd",
		"":                                       "",
	} {
		if got := repositoryOf(ref); got != want {
			t.Errorf("repositoryOf(%q) = %q, want %q", ref, got, want)
		}
	}
}

func TestLookUp(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"isthmusd", "own"} {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Options{Bin: bin})
	for ref, want := range map[string]string{
		"isthmus-mesh/isthmusd:v1":    "/isthmusd",
		"hub:5000/mesh/isthmusd":      "/isthmusd",
		"isthmus-mesh/own":            "/own",
		"toolbox":                     "sleep",
		"docker.io/library/busybox:1": "sleep",
		"isthmus-mesh/isthmus-proxy":  "error: the program of image \"isthmus-mesh/isthmus-proxy\", bin/isthmus-proxy, is not built",
		"nginx":                       "error: the sandbox has no registry",
		"isthmus-mesh/..":             "error: ",
		"own":                         "error: the sandbox has no registry",
		"hub.invalid/mesh/isthmusd":   "error: pull \"hub.invalid/mesh/isthmusd\": there is no registry hub.invalid",
	} {
		img, err := s.lookUp(ref)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = img.entrypoint[0]
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("lookUp(%q) gives %q, want %q", ref, got, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	set := func(add, drop string) *runtimeapi.LinuxContainerSecurityContext {
		return &runtimeapi.LinuxContainerSecurityContext{Capabilities: &runtimeapi.Capability{
			AddCapabilities: strings.Fields(add), DropCapabilities: strings.Fields(drop),
		}}
	}
	without := func(c uint) []uint {
		return slices.DeleteFunc(sorted(defaultCapabilities), func(x uint) bool { return x == c })
	}
	cases := map[string]struct {
		in   *runtimeapi.LinuxContainerSecurityContext
		want []uint
	}{
		"default":          {nil, sorted(defaultCapabilities)},
		"drop all":         {set("", "ALL"), nil},
		"drop all, add":    {set("NET_ADMIN CAP_NET_RAW", "ALL"), []uint{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}},
		"drop one":         {set("", "NET_RAW"), without(unix.CAP_NET_RAW)},
		"add all but one":  {set("ALL", "SYS_ADMIN"), allBut(unix.CAP_SYS_ADMIN)},
		"privileged":       {&runtimeapi.LinuxContainerSecurityContext{Privileged: true}, allBut(1000)},
		"lower case works": {set("net_admin", "all"), []uint{unix.CAP_NET_ADMIN}},
	}
	for name, tt := range cases {
		got, err := capabilities(tt.in)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v (%v), want %v", name, got, err, tt.want)
		}
	}
	if _, err := capabilities(set("NET_ADMINN", "")); err == nil {
		t.Error("an unknown capability was taken")
	}
}

func sorted(list []uint) []uint { return slices.Sorted(slices.Values(list)) }

func allBut(one uint) []uint {
	var list []uint
	for c := range capabilityNames {
		if uint(c) != one {
			list = append(list, uint(c))
		}
	}
	return list
}

func TestLogLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "0.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	out := log.stream("stdout")
	for _, part := range []string{"one\ntw", "o\n", strings.Repeat("x", maxLine+3), "\n\n"} {
		if n, err := out.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	if _, err := out.Write([]byte("no end")); err != nil {
		t.Fatal(err)
	}
	out.flush()
	log.close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		got = append(got, rest)
	}
	want := []string{"stdout F one", "stdout F two", "stdout P " + strings.Repeat("x", maxLine), "stdout F xxx", "stdout F ", "stdout F no end"}
	if !slices.Equal(got, want) {
		t.Errorf("log has %q", got)
	}
}

func TestAddressesAreNotReusedSoon(t *testing.T) {
	pods := netip.MustParsePrefix("10.0.0.0/29") // .1 is the gateway, .7 is not used
	s := New(Options{Pods: pods, Gateway: pods.Addr().Next()})
	var got []string
	for range 7 {
		ip, err := s.allocate()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ip.String()[len("10.0.0."):])
	}
	if text := strings.Join(got, " "); text != "2 3 4 5 6 2 3" {
		t.Errorf("addresses %s", text)
	}
	for i, last := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"} {
		s.sandboxes[string(rune('a'+i))] = &sandbox{ip: netip.MustParseAddr(last)}
	}
	if ip, err := s.allocate(); err == nil {
		t.Errorf("got %s though all are in use", ip)
	}
}
