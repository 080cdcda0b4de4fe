package sandbox_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcs "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/sandbox"
)

// nobody runs TestUnprivileged again, with the folder of the programs.
const nobody = "ISTHMUS_TEST_NOBODY_BIN"

// TestUnprivileged starts clusters as a user without any right. As root it runs
// itself again as nobody; otherwise it just does.
func TestUnprivileged(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two clusters")
	}
	if os.Geteuid() == 0 {
		asNobody(t)
		return
	}
	s := up(t, sandbox.Options{
		Bin: os.Getenv(nobody), Dir: filepath.Join(t.TempDir(), "s"),
		Clusters: []sandbox.Cluster{{Name: "east"}, {Name: "west"}},
	})
	east, west := in(t, s, "east"), in(t, s, "west")
	testCapabilities(t, east)
	testNetworksApart(t, east, west)
	testCapture(t, east, west)
}

func testNetworksApart(t *testing.T, east, west *cluster) {
	east.start(server("apart"))
	p := west.start(server("apart"))
	lb := west.expose("apart", corev1.ServiceTypeLoadBalancer).Status.LoadBalancer.Ingress[0].IP
	east.wait("west's load balancer", func() error {
		if _, code := east.run("apart", "get", "http://"+lb+"/"); code != 0 {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	if east.reaches("apart", "http://"+p.Status.PodIP+":8080/") {
		t.Error("a pod of another network was reached by its address")
	}
}

// asNobody runs this test in a process of the user nobody.
func asNobody(t *testing.T) {
	bin := programs(t)
	work, err := os.MkdirTemp("", "isthmus-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	const id = 65534
	if err := os.Chown(work, id, id); err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(bin, "sandbox.test")
	copyFile(t, "/proc/self/exe", self)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestUnprivileged$", "-test.v", "-test.timeout=5m")
	cmd.Dir = work
	cmd.Env = []string{nobody + "=" + bin, "HOME=" + work, "TMPDIR=" + work, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	text, err := cmd.CombinedOutput()
	t.Logf("as user %s:\n%s", strconv.Itoa(id), text)
	if err != nil {
		if strings.Contains(err.Error(), "permission denied") {
			t.Skipf("nobody may not run programs of this checkout: %v", err)
		}
		t.Fatal(err)
	}
	if strings.Contains(string(text), "--- SKIP") {
		t.Skip("this host does not let unprivileged users make namespaces")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// command is line as a command.
func command(line []string) *exec.Cmd { return exec.Command(line[0], line[1:]...) }

// descendants lists a process and all below it.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	list := []int{pid}
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, descendants(t, child)...)
		}
	}
	return list
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	rest := string(data[strings.LastIndexByte(string(data), ')')+1:])
	return !strings.HasPrefix(strings.TrimSpace(rest), "Z")
}

func applyImport(t *testing.T, config *rest.Config, object *mcs.ServiceImport) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := mcs.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.Background(), object) })
}
