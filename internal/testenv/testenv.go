// Package testenv gives tests a real Kubernetes API server: etcd and
// kube-apiserver on loopback, up in about three seconds, with accounts, tokens
// and TokenReview. Nothing is simulated and nothing is left behind.
//
// There are no nodes and, unless WithControllers is given, no controllers: pods
// stay pending, a deleted namespace stays Terminating, nobody makes
// EndpointSlices. What a test wants to see, it writes.
package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/sandbox/build"
)

// startTimeout covers a first build from a cold cache, too.
const startTimeout = 20 * time.Minute

// An Env is one API server with its etcd. A test may start several.
type Env struct {
	// Config is the administrator's. Copy it before changing it.
	Config *rest.Config
	// Kubeconfig holds the same as a file's content.
	Kubeconfig []byte
	// Root is the repository's folder.
	Root string

	settings settings
	dir      string
	program  string
	address  string // host:port, the same after Restart
	process  *process
}

type settings struct{ controllers bool }

// An Option changes what Start starts.
type Option func(*settings)

// WithControllers also runs kube-controller-manager and kube-scheduler: default
// accounts, namespaces that go away, EndpointSlices of Services.
func WithControllers() Option { return func(s *settings) { s.controllers = true } }

// Start starts an API server that ends with the test.
func Start(t testing.TB, options ...Option) *Env {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	env, err := start(ctx, options...)
	if err != nil {
		t.Fatalf("start test API server: %v", err)
	}
	t.Cleanup(env.close)
	return env
}

// Shared starts an API server for all tests of a process, hands it to use and
// runs the tests. Its result is for os.Exit:
//
//	var env *testenv.Env
//
//	func TestMain(m *testing.M) {
//		os.Exit(testenv.Shared(m, func(e *testenv.Env) { env = e }))
//	}
func Shared(m *testing.M, use func(*Env), options ...Option) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	env, err := start(ctx, options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start test API server:", err)
		return 1
	}
	defer env.close()
	use(env)
	return m.Run()
}

func start(ctx context.Context, options ...Option) (*Env, error) {
	root, err := build.Root()
	if err != nil {
		return nil, err
	}
	program, err := build.Ensure(ctx, root, build.Kube())
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "isthmus-env-") // short: it holds sockets
	if err != nil {
		return nil, err
	}
	env := &Env{Root: root, dir: dir, program: program, address: "127.0.0.1:0"}
	for _, option := range options {
		option(&env.settings)
	}
	if err := env.run(ctx); err != nil {
		env.close()
		return nil, err
	}
	return env, nil
}

// run starts the process and waits until it is ready.
func (e *Env) run(ctx context.Context) error {
	args := []string{"apiserver", "-dir", filepath.Join(e.dir, "api"), "-socket-dir", e.dir, "-bind", e.address}
	if e.settings.controllers {
		args = append(args, "-controllers")
	}
	begin := time.Now()
	process, err := startProcess(e.program, filepath.Join(e.dir, "log"), args...)
	if err != nil {
		return err
	}
	e.process = process
	if e.Kubeconfig, err = process.ready(ctx, time.Minute); err != nil {
		return err
	}
	noteStart(begin)
	if e.Config, err = clientcmd.RESTConfigFromKubeConfig(e.Kubeconfig); err != nil {
		return err
	}
	e.Config.QPS, e.Config.Burst = 1000, 1000
	e.address = e.Config.Host[len("https://"):]
	return nil
}

// Kill ends the API server without warning. Its data and address stay.
func (e *Env) Kill() { e.process.kill() }

// Restart starts the API server again on its old address and data, and waits
// until it is ready. Clients made before may be used again.
func (e *Env) Restart(t testing.TB) {
	t.Helper()
	e.process.kill()
	config := e.Config // clients hold it: certificates and address are the same
	if err := e.run(t.Context()); err != nil {
		t.Fatalf("restart test API server: %v", err)
	}
	e.Config = config
}

// Backup copies the API server's data; the API server is restarted for it.
func (e *Env) Backup(t testing.TB) {
	t.Helper()
	e.Kill()
	if err := os.CopyFS(filepath.Join(e.dir, "backup"), os.DirFS(filepath.Join(e.dir, "api"))); err != nil {
		t.Fatalf("back up test API server: %v", err)
	}
	e.Restart(t)
}

// Restore takes the API server back to what Backup copied: resource versions move
// backwards, as when etcd was restored.
func (e *Env) Restore(t testing.TB) {
	t.Helper()
	e.Kill()
	data := filepath.Join(e.dir, "api")
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(e.dir, "backup"), data); err != nil {
		t.Fatalf("restore test API server: %v", err)
	}
	e.Restart(t)
}

func (e *Env) close() {
	if e.process != nil {
		e.process.kill()
	}
	os.RemoveAll(e.dir)
}

// Client returns a clientset with the administrator's rights.
func (e *Env) Client(t testing.TB) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(e.Config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
