package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/testenv"
	"github.com/isthmus-mesh/isthmus/primary/server"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/trust"
)

// planeVariable makes this test binary an isthmusd: it names the file of its
// orders. So it has the race detector too.
const planeVariable = "ISTHMUS_TEST_PLANE"

// orders is what the child is told.
type orders struct {
	Host, Token, CADir, Cluster, Identity string
	CA                                    []byte
}

// plane is a control plane in a process of its own, which can be killed.
type plane struct {
	t       *testing.T
	cluster string
	orders  string // file
	log     string // file, of all its lives

	mu    sync.Mutex
	cmd   *exec.Cmd
	done  chan struct{} // closed when the life has ended
	asked bool          // to end
	from  int64         // where this life's log begins
}

func newPlane(t *testing.T, env *testenv.Env, cluster, caDir string) *plane {
	t.Helper()
	config := account(t, env, cluster)
	dir := t.TempDir()
	p := &plane{t: t, cluster: cluster, orders: filepath.Join(dir, "orders"), log: filepath.Join(dir, "log")}
	data, err := json.Marshal(orders{
		Host: config.Host, Token: config.BearerToken, CA: config.CAData, CADir: caDir, Cluster: cluster,
		Identity: "isthmusd-" + cluster, // the same in each life, as that of a container which is started again
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.orders, data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// start begins a life. It returns when the process runs.
func (p *plane) start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), planeVariable+"="+p.orders)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the death signal comes when this thread ends
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.asked {
			p.t.Errorf("isthmusd of %s ended by itself: %v", p.cluster, cmd.ProcessState)
		}
	}()
	if err := <-started; err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.done, p.asked, p.from = cmd, done, false, info.Size()
}

// kill ends a life without warning, and returns when it has ended.
func (p *plane) kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd, p.asked = nil, true
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		<-done
	}
}

// text is what it has logged.
func (p *plane) text() string {
	data, _ := os.ReadFile(p.log)
	return string(data)
}

// led reports whether it has been elected in this life.
func (p *plane) led() bool {
	return strings.Contains(p.text()[p.from:], "elected: controllers run here")
}

// checkLog tells what a log must not hold.
func (p *plane) checkLog() {
	text := p.text()
	for _, line := range refusals(text) {
		p.t.Errorf("log of %s: %s", p.cluster, line)
	}
	for _, bad := range []string{"DATA RACE", "panic:"} {
		if i := strings.Index(text, bad); i >= 0 {
			p.t.Errorf("log of %s:\n%s", p.cluster, text[max(0, i-500):min(len(text), i+3000)])
		}
	}
}

// planeMain is the child.
func planeMain(file string) int {
	if err := runPlane(file); err != nil {
		fmt.Fprintln(os.Stderr, "isthmusd:", err)
		return 1
	}
	return 0
}

func runPlane(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var o orders
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	domain, err := trust.ParseDomain(api.DefaultTrustDomain)
	if err != nil {
		return err
	}
	var l server.Listeners
	for _, into := range []*net.Listener{&l.Discovery, &l.Webhook, &l.Metrics, &l.Health, &l.Debug} {
		if *into, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	srv, err := server.New(server.Options{
		Config:  &rest.Config{Host: o.Host, BearerToken: o.Token, TLSClientConfig: rest.TLSClientConfig{CAData: o.CA}},
		Cluster: federation.ClusterName(o.Cluster), Domain: domain, Identity: o.Identity, CADir: o.CADir, Listeners: l,
		Injection: webhook.Config{Image: "isthmus-mesh/isthmus-proxy:dev", Version: "dev"}, AllowServers: []string{"127.0.0.1"},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	return srv.Run(ctx)
}
