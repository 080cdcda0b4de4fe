package proxy

import (
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
	"github.com/isthmus-mesh/isthmus/dataplane/telemetry"
)

// report counts the request.
func (e *exchange) report() {
	protocol := "http"
	if strings.HasPrefix(e.in.Header.Get("Content-Type"), "application/grpc") {
		protocol = "grpc"
	}
	call := e.chain.proxy.call(e.d, e.cluster, e.conn, protocol, e.flags)
	e.chain.proxy.telemetry.Request(call, e.code, e.grpc, time.Since(e.began))
}

// call says who called what, as far as this side of the call can know. cluster
// and up may be nil.
func (p *Proxy) call(d *downstream, cluster *upstream.Cluster, up *upstream.Conn, protocol, flags string) telemetry.Call {
	c := telemetry.Call{Protocol: protocol, Flags: flags, Policy: telemetry.PolicyUnknown}
	me := p.self()
	if d.direction == config.DirectionInbound {
		c.Reporter, c.Destination, c.Policy = telemetry.Destination, me, telemetry.PolicyNone
		if d.peer != nil {
			c.Policy = telemetry.PolicyMTLS
			c.Source = telemetry.Party{Namespace: d.peer.ID.Namespace(), Cluster: d.peer.Cluster, Principal: d.peer.ID}
		}
	} else {
		c.Reporter, c.Source = telemetry.Source, me
		if up != nil {
			c.Destination = destination(up)
		}
	}
	if cluster != nil {
		info := cluster.Config().Service
		c.Service, c.ServiceName, c.ServiceNamespace = info.Host, info.Name, info.Namespace
	}
	return c
}

func destination(up *upstream.Conn) telemetry.Party {
	to := telemetry.Party{Cluster: up.Host.Info().Cluster}
	if up.Peer != nil {
		to.Principal, to.Namespace = up.Peer.ID, up.Peer.ID.Namespace()
		if up.Peer.Cluster != "" {
			to.Cluster = up.Peer.Cluster // proved, where the other is only said
		}
	}
	return to
}

// self is this proxy's workload, with the identity of the moment.
func (p *Proxy) self() telemetry.Party {
	n := p.opts.Node
	me := telemetry.Party{Workload: n.Workload, Namespace: n.Namespace, Cluster: n.Cluster, Principal: n.Principal}
	if p.opts.Source != nil {
		if svid, err := p.opts.Source.SVID(); err == nil {
			me.Principal = svid.ID
		}
	}
	return me
}
