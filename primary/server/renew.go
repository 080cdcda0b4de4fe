package server

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/remote/join"
)

// renewal has the tokens of remote secrets renewed; join says which are due.
type renewal struct {
	kube         kubernetes.Interface
	namespace    string
	allowServers []string
	log          *slog.Logger
}

// How often tokens are looked at, and when the end of one that could not be
// renewed becomes a warning.
const (
	renewEvery = time.Hour
	renewWarn  = 3 * 24 * time.Hour
)

// Update is no concern of it.
func (*renewal) Update(*federation.Snapshot) {}

// Run looks at once and then every hour until ctx ends.
func (r *renewal) Run(ctx context.Context) error {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		r.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (r *renewal) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	renewed, err := join.Renew(ctx, join.RenewOptions{Local: r.kube, Namespace: r.namespace, AllowServers: r.allowServers, Now: time.Now()})
	if err != nil && ctx.Err() == nil {
		r.log.Warn("renew tokens of remote secrets", "err", err)
	}
	for _, one := range renewed {
		switch {
		case one.Renewed:
			r.log.Info("token of remote secret renewed", "cluster", one.Cluster, "expires", one.Expires)
		case one.Err != nil && !one.Expires.IsZero() && time.Until(one.Expires) < renewWarn:
			r.log.Error("token of remote secret ends soon and cannot be renewed", "cluster", one.Cluster, "expires", one.Expires, "err", one.Err)
		case one.Err != nil:
			r.log.Info("token of remote secret was not renewed", "cluster", one.Cluster, "expires", one.Expires, "err", one.Err)
		}
	}
}
