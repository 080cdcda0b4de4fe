package eastwest

import (
	"math"

	"github.com/isthmus-mesh/isthmus/federation"
)

// returning is what is different about hops of clusters to which traffic comes back.
type returning struct {
	back bool // it stays behind its usual rank, or share, for now
	// held is how much of the hop's own weight is held back, 0 to 99 per cent. It may
	// be more than 0 of a hop that is not back: a gateway before returning pods and
	// others.
	held int
}

// returningOf is that of hops of a cluster with that share. What is drained has
// all of its weight, among its like.
func returningOf(share int) returning {
	if share == 0 {
		return returning{}
	}
	return returning{back: share < 100, held: 100 - share}
}

func (r returning) share() int { return 100 - r.held }

// shareOf is what cluster is given, in per cent; a cluster that is not known is
// in full use.
func shareOf(s *federation.Snapshot, cluster federation.ClusterName) int {
	if c := s.Cluster(cluster); c != nil {
		return c.Drain.ShareOf()
	}
	return 100
}

// GiveWay orders hops of a gateway to pods of its own network: those of drained
// clusters come after all others, those of returning ones have less weight. It
// returns them as Hops does.
func GiveWay(hops []Hop, s *federation.Snapshot) []Hop {
	for i := range hops {
		share := shareOf(s, hops[i].Cluster)
		hops[i].rank, hops[i].returning = rank{drained: share == 0}, returningOf(share)
	}
	return prioritise(hops)
}

// crowd is who is ready behind the gateways of a network, by what their clusters
// are given.
type crowd struct {
	full, back, drained uint32
	shares              uint64 // of back, their sum in per cent
}

func (c crowd) with(n uint32, share int) crowd {
	switch share {
	case 0:
		c.drained += n
	case 100:
		c.full += n
	default:
		c.back += n
		c.shares += uint64(n) * uint64(share)
	}
	return c
}

// used counts who is called through the network: the drained only where there is
// nobody else.
func (c crowd) used() uint32 {
	if n := c.full + c.back; n > 0 {
		return n
	}
	return c.drained
}

// onto gives the gateways of the network the standing of those behind: where all
// are drained so is every way to them, and where all are coming back they come
// back once, not once more with their own gateway.
func (c crowd) onto(hops []Hop) {
	n := uint64(c.full) + uint64(c.back)
	if n == 0 {
		for i := range hops {
			hops[i].rank.drained = hops[i].rank.class != classSilent
			hops[i].returning = returning{}
		}
		return
	}
	share := max(1, int((100*uint64(c.full)+c.shares)/n))
	for i := range hops {
		h := &hops[i]
		if c.full == 0 {
			h.returning = returningOf(share)
			continue
		}
		h.held = 100 - max(1, h.share()*share/100)
	}
}

// lastSteady returns the index of the last hop, by rank, that is neither coming
// back nor for when nothing else is left; -1 if there is none.
func lastSteady(hops []Hop) int {
	for i := len(hops) - 1; i >= 0; i-- {
		if h := &hops[i]; !h.back && !h.rank.drained && h.rank.class != classSilent {
			return i
		}
	}
	return -1
}

func allReturn(hops []Hop) bool {
	for i := range hops {
		if !hops[i].back {
			return false
		}
	}
	return true
}

// weigh gives the hops of one priority, sorted by rank, their weights where some
// are coming back. Those of the last rank weigh what they are given of their own.
// Those of better ranks, who would have had everything, are given their share of
// all, and the last rank has the rest.
func weigh(hops []Hop) {
	changed := false
	weights := make([]uint64, len(hops))
	for i := range hops {
		weights[i] = uint64(hops[i].Weight)
		changed = changed || hops[i].held > 0
	}
	if !changed {
		return
	}
	better := 0
	for better < len(hops) && hops[better].rank != hops[len(hops)-1].rank {
		better++
	}
	fit(weights[:better], math.MaxUint16)
	fit(weights[better:], math.MaxUint16)
	var last, rest uint64 // what the last rank weighs, and what better ranks leave it
	for i := range hops {
		share := uint64(hops[i].share())
		if i < better {
			rest += weights[i] * (100 - share)
		} else {
			last += weights[i] * share
		}
	}
	for i := range hops {
		weights[i] *= uint64(hops[i].share())
		switch {
		case i < better:
			weights[i] *= last
		case better > 0:
			weights[i] *= rest
		}
	}
	fit(weights, math.MaxUint32/2)
	for i := range hops {
		hops[i].Weight = uint32(weights[i])
	}
}

// fit makes weights small and keeps their proportions: exactly where their sum,
// without a common factor, is at most that, else as well as whole numbers from 1
// allow.
func fit(weights []uint64, most uint64) {
	var common, sum uint64
	for _, w := range weights {
		common = gcd(common, w)
	}
	if common == 0 {
		return
	}
	for i := range weights {
		weights[i] /= common
		sum += weights[i]
	}
	if sum <= most {
		return
	}
	for i, w := range weights {
		weights[i] = max(1, uint64(float64(w)/float64(sum)*float64(most)))
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
