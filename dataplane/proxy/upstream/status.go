package upstream

import "time"

// ClusterStatus is an xds cluster as the admin page shows it.
type ClusterStatus struct {
	Name     string       `json:"name"`
	Known    bool         `json:"known"` // hosts were received
	Requests int64        `json:"requests"`
	Pending  int64        `json:"pending"`
	Conns    int64        `json:"connections"`
	Hosts    []HostStatus `json:"hosts"`
}

// HostStatus is one host of a cluster.
type HostStatus struct {
	Address      string     `json:"address"`
	Priority     int        `json:"priority"`
	Weight       uint32     `json:"weight"`
	Health       string     `json:"health"`
	MTLS         bool       `json:"mtls"`
	Cluster      string     `json:"cluster,omitempty"`
	Network      string     `json:"network,omitempty"`
	Pod          string     `json:"pod,omitempty"`
	Via          string     `json:"via,omitempty"`
	EjectedUntil *time.Time `json:"ejectedUntil,omitempty"`
	Ejections    uint32     `json:"ejections"`
	Failures     uint32     `json:"failures"` // consecutive
	Active       int64      `json:"active"`
	Conns        int64      `json:"connections"`
}

var healthNames = [...]string{"HEALTHY", "DEGRADED", "UNHEALTHY"}

// Status describes the cluster at now.
func (c *Cluster) Status(now time.Time) ClusterStatus {
	s := ClusterStatus{Name: c.cfg.Name, Requests: c.requests.Load(), Pending: c.pending.Load(), Conns: c.conns.Load(), Hosts: []HostStatus{}}
	select {
	case <-c.ready:
		s.Known = true
	default:
	}
	priorities := c.priorities()
	for _, h := range c.Hosts() {
		s.Hosts = append(s.Hosts, h.status(now, priorities[h]))
	}
	return s
}

func (c *Cluster) priorities() map[*Host]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[*Host]int, len(c.hosts))
	for p, l := range c.levels {
		for _, g := range l.groups {
			for _, m := range g.members {
				out[m.host] = p
			}
		}
	}
	return out
}

func (h *Host) status(now time.Time, priority int) HostStatus {
	info, record := h.Info(), h.record()
	s := HostStatus{
		Address: h.Addr.String(), Priority: priority, Weight: info.Weight, Health: healthNames[info.Health], MTLS: h.MTLS(),
		Cluster: info.Cluster, Network: info.Network, Pod: info.Pod, Via: info.Via,
		Ejections: record.ejections, Failures: record.failures, Active: h.active.Load(), Conns: h.conns.Load(),
	}
	if now.Before(record.until) {
		s.EjectedUntil = &record.until
	}
	return s
}
