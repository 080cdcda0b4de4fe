package control

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// startEtcd runs a single etcd member until ctx ends. It answers on the unix
// socket it returns and nowhere else. Its data need not survive a power cut,
// so nothing is synced to disk.
func startEtcd(ctx context.Context, dir, socketDir, logFile string) (endpoint string, err error) {
	wal.SegmentSizeBytes = 4 << 20 // 64 MiB would be preallocated twice

	client := url.URL{Scheme: "unix", Path: filepath.Join(socketDir, "etcd.sock")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(socketDir, "etcd-peer.sock")}
	nowhere := url.URL{Scheme: "http", Host: "127.0.0.1:2379"} // must be host:port, is never dialled

	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenClientUrls = []url.URL{client}
	cfg.ListenPeerUrls = []url.URL{peer}
	cfg.AdvertiseClientUrls = []url.URL{nowhere}
	cfg.AdvertisePeerUrls = []url.URL{nowhere}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "warn"
	cfg.LogOutputs = []string{logFile}

	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return "", fmt.Errorf("start etcd: %w", err)
	}
	context.AfterFunc(ctx, server.Close)
	select {
	case <-server.Server.ReadyNotify():
		return "unix://" + client.Path, nil
	case err := <-server.Err():
		return "", fmt.Errorf("start etcd: %w", err)
	case <-time.After(time.Minute):
		return "", fmt.Errorf("start etcd: not ready after a minute")
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
