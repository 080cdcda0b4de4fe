package registry

import (
	"net/http"
	"time"
)

// mostProbes bounds how many probes are under way at once.
const mostProbes = 6

// prober asks a generation's API server again and again. While it answers, one
// connection serves, one question at a time. While it does not, questions
// overlap and each has a connection of its own: one that was sent into the void
// must not keep the next from finding that the way is open again.
type prober struct {
	g       *generation
	client  *http.Client // while the server answers; not the reader's, whose watches keep it, dead or not
	results chan probed

	failing  bool
	underway int
	good     time.Time // when the last probe began that was answered
}

// probed is the result of one probe.
type probed struct {
	finding
	began time.Time
}

func newProber(g *generation) *prober {
	return &prober{g: g, results: make(chan probed)}
}

// run probes until the generation ends.
func (p *prober) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer p.drop()
	for {
		select {
		case <-p.g.ctx.Done():
			return
		case <-timer.C:
			p.begin()
			timer.Reset(p.gap())
		case r := <-p.results:
			p.underway--
			if r.err != nil && r.began.Before(p.good) {
				continue // a later one was answered
			}
			changed := p.failing != (r.err != nil)
			if p.failing = r.err != nil; p.failing {
				p.drop()
			} else {
				p.good = r.began
			}
			if changed {
				timer.Reset(p.gap())
			}
			p.g.tell(r.finding)
		}
	}
}

func (p *prober) gap() time.Duration {
	every := p.g.m.r.opts.ProbeEvery
	if p.failing {
		every = min(every, probeAgain)
	}
	return every + jitter(every/4)
}

// begin starts a probe, unless as many as may be are under way.
func (p *prober) begin() {
	if p.underway >= mostProbes || p.underway > 0 && !p.failing {
		return
	}
	client, err := p.connect()
	p.underway++
	own, began := p.failing, time.Now()
	p.g.wg.Go(func() {
		r := probed{finding{gen: p.g, err: err}, began}
		if err == nil {
			r.identity, r.err = probe(p.g.ctx, client, p.g.cluster.Server)
		}
		if own && client != nil {
			closeClient(client)
		}
		r.at = time.Now()
		select {
		case p.results <- r:
		case <-p.g.ctx.Done():
		}
	})
}

// connect returns the client of the next probe.
func (p *prober) connect() (*http.Client, error) {
	if p.client != nil && !p.failing {
		return p.client, nil
	}
	client, err := p.g.access.connect(p.g.m.r.opts.AllowServers, p.g.m.gate)
	if err == nil && !p.failing {
		p.client = client
	}
	return client, err
}

// drop ends the connection that serves, with the probe that is under way.
func (p *prober) drop() {
	if p.client != nil {
		closeClient(p.client)
		p.client = nil
	}
}
