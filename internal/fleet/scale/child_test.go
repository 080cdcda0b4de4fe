package scale_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/primary/server"
	"github.com/isthmus-mesh/isthmus/primary/webhook"
	"github.com/isthmus-mesh/isthmus/trust"
)

// childEnv names the file with a child's settings: this program is then
// isthmusd, so that what it takes can be measured from outside.
const childEnv = "ISTHMUS_SCALE_CHILD"

// settings is what the child is told.
type settings struct {
	Kubeconfig       []byte
	Cluster, Network string
	Domain, CADir    string
}

// addresses is what the child answers on its standard output.
type addresses struct{ Discovery, Health, Debug, Control string }

// stats is what the child tells of itself.
type stats struct {
	Heap     uint64 // bytes in use after a collection
	Requests counts
}

// runChild is isthmusd until its standard input ends.
func runChild(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(s.Kubeconfig)
	if err != nil {
		return err
	}
	counter := &counter{}
	config.Wrap(counter.wrap)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return serveChild(ctx, s, config, counter)
}

func serveChild(ctx context.Context, s settings, config *rest.Config, counter *counter) error {
	domain, err := trust.ParseDomain(s.Domain)
	if err != nil {
		return err
	}
	var all [6]net.Listener
	for i := range all {
		if all[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	srv, err := server.New(server.Options{
		Config: config, Cluster: federation.ClusterName(s.Cluster), Network: federation.NetworkName(s.Network), Domain: domain, Identity: "isthmusd-1", CADir: s.CADir,
		Listeners: server.Listeners{Discovery: all[0], Webhook: all[1], Metrics: all[2], Health: all[3], Debug: all[4]},
		Injection: webhook.Config{Image: "isthmus-mesh/isthmus-proxy:dev", Version: "dev"}, AllowServers: []string{"127.0.0.1"},
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	control := &http.Server{Handler: controlHandler(counter)}
	defer control.Close()
	go func() { _ = control.Serve(all[5]) }()
	told, err := json.Marshal(addresses{all[0].Addr().String(), all[3].Addr().String(), all[4].Addr().String(), all[5].Addr().String()})
	if err != nil {
		return err
	}
	fmt.Println(string(told))
	return srv.Run(ctx)
}

func controlHandler(c *counter) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) {
		out := stats{Requests: c.counts()}
		if r.URL.Query().Get("heap") != "" {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			out.Heap = m.HeapAlloc
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	return mux
}
