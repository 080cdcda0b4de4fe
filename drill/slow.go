package drill

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RelayName is the Deployment and the Service of the relay, in the system namespace.
const RelayName = "isthmus-drill-relay"

// Relay is a program of ours before the east-west gateway of a cluster, which holds back
// what passes.
type Relay struct {
	Cluster string        `json:"cluster"` // name of the cluster whose gateway is slowed
	Delay   time.Duration `json:"delay"`   // of a round trip
	Image   string        `json:"image"`
}

func (r Relay) String() string {
	return fmt.Sprintf("delay the way to the gateway of %s by %s", r.Cluster, r.Delay)
}

func (r Relay) put(context.Context, Hands, string) error { return errors.New("not there yet") }

func (r Relay) remove(context.Context, Hands, string) error { return nil }
