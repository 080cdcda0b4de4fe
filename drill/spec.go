package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names of the scenarios.
const (
	ScenarioLocalEndpoints = "local-endpoints"
	ScenarioGatewayRefuse  = "gateway-refuse"
	ScenarioGatewayDrop    = "gateway-drop"
	ScenarioAPIServer      = "api-server"
	ScenarioControlPlane   = "control-plane"
	ScenarioWholeCluster   = "whole-cluster"
	ScenarioSlow           = "slow"
	ScenarioFlap           = "flap"
)

// Scenarios lists the names of all scenarios.
func Scenarios() []string {
	return []string{
		ScenarioLocalEndpoints, ScenarioGatewayRefuse, ScenarioGatewayDrop, ScenarioAPIServer,
		ScenarioControlPlane, ScenarioWholeCluster, ScenarioSlow, ScenarioFlap,
	}
}

// Spec says which drill is wanted. Zero values mean defaults: see WithDefaults.
type Spec struct {
	Service  string `json:"service"`  // NAMESPACE/NAME; required
	Scenario string `json:"scenario"` // required; one of Scenarios
	// Context is the kubeconfig context of the cluster that the load comes from; empty
	// means the current one.
	Context string `json:"context,omitempty"`
	// Remote is the cluster that is broken, where the scenario breaks another; empty means the only
	// other one that exports the service.
	Remote string  `json:"remote,omitempty"`
	Port   int     `json:"port,omitempty"` // of the service; 0 means its first
	Path   string  `json:"path,omitempty"`
	Image  string  `json:"clientImage,omitempty"`
	Rate   float64 `json:"rate,omitempty"` // requests per second
	// Baseline, Duration and After are how long is watched before, while broken, and after
	// all is well again.
	Baseline Duration `json:"baseline,omitempty"`
	Duration Duration `json:"duration,omitempty"`
	After    Duration `json:"after,omitempty"`
	Mode     string   `json:"mode,omitempty"`   // refuse or drop, where the scenario leaves it open
	Means    string   `json:"means,omitempty"`  // mesh or underlay; empty means underlay on a sandbox, mesh elsewhere
	Period   Duration `json:"period,omitempty"` // flap: how long each state lasts
	Delay    Duration `json:"delay,omitempty"`  // slow: added to each round trip
	// Force goes on where a check only warns of harm.
	Force      bool  `json:"force,omitempty"`
	Objectives Wants `json:"objectives,omitzero"`
}

// Wants are the objectives that somebody may set; what is nil has the scenario's default.
type Wants struct {
	MaxErrors     *int      `json:"maxErrors,omitempty"`
	MaxErrorRate  *float64  `json:"maxErrorRate,omitempty"` // 0 to 1
	MaxRecovery   *Duration `json:"maxRecovery,omitempty"`  // no request fails that begins so long after the break
	MaxFailBack   *Duration `json:"maxFailBack,omitempty"`
	MaxP99        *Duration `json:"maxP99,omitempty"`        // while broken
	MaxWrongShare *float64  `json:"maxWrongShare,omitempty"` // 0 to 1
}

// Modes.
const (
	ModeRefuse = "refuse" // connections are refused
	ModeDrop   = "drop"   // packets vanish
)

// Means by which something is broken.
const (
	MeansMesh     = "mesh"     // what is lost breaks itself: gateways their sockets, control planes the way to an API server
	MeansUnderlay = "underlay" // the network of a sandbox is cut
)

// WithDefaults checks s and fills what is empty. Errors name the field.
func (s Spec) WithDefaults() (Spec, error) {
	if !slices.Contains(Scenarios(), s.Scenario) {
		return s, fmt.Errorf("scenario %q is none of %s", s.Scenario, strings.Join(Scenarios(), ", "))
	}
	if _, _, err := s.Names(); err != nil {
		return s, err
	}
	set(&s.Path, "/")
	set(&s.Rate, 50)
	set(&s.Baseline, Duration(5*time.Second))
	set(&s.Duration, Duration(15*time.Second))
	set(&s.After, Duration(5*time.Second))
	set(&s.Period, Duration(3*time.Second))
	set(&s.Delay, Duration(200*time.Millisecond))
	if err := s.setMode(); err != nil {
		return s, err
	}
	if err := s.checkMeans(); err != nil {
		return s, err
	}
	return s, s.validate()
}

func set[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// setMode fills the mode and refuses one that contradicts the scenario.
func (s *Spec) setMode() error {
	fixed := map[string]string{ScenarioGatewayRefuse: ModeRefuse, ScenarioGatewayDrop: ModeDrop}[s.Scenario]
	usual := map[string]string{ScenarioAPIServer: ModeDrop, ScenarioWholeCluster: ModeDrop, ScenarioFlap: ModeRefuse}[s.Scenario]
	switch {
	case s.Mode != "" && s.Mode != ModeRefuse && s.Mode != ModeDrop:
		return fmt.Errorf("mode %q is neither %s nor %s", s.Mode, ModeRefuse, ModeDrop)
	case s.Mode != "" && fixed+usual == "":
		return fmt.Errorf("mode: scenario %s has none", s.Scenario)
	case s.Mode != "" && fixed != "" && s.Mode != fixed:
		return fmt.Errorf("mode %q: scenario %s is the one that breaks by %s", s.Mode, s.Scenario, fixed)
	}
	set(&s.Mode, fixed+usual)
	return nil
}

// checkMeans refuses means that there are not. Those that are not named are chosen where the clusters are known.
func (s Spec) checkMeans() error {
	switch {
	case s.Means != "" && s.Means != MeansMesh && s.Means != MeansUnderlay:
		return fmt.Errorf("means %q is neither %s nor %s", s.Means, MeansMesh, MeansUnderlay)
	case s.Means != "" && s.Mode == "":
		return fmt.Errorf("means: scenario %s has only one", s.Scenario)
	}
	return nil
}

// Names returns the service's namespace and name.
func (s Spec) Names() (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(s.Service, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("service %q is not of the form NAMESPACE/NAME", s.Service)
	}
	return namespace, name, nil
}

// longest bounds each part of a drill.
const longest = time.Hour

func (s Spec) validate() error {
	for name, d := range map[string]Duration{"baseline": s.Baseline, "duration": s.Duration, "after": s.After, "period": s.Period, "delay": s.Delay} {
		if d < 0 || time.Duration(d) > longest {
			return fmt.Errorf("%s %s is not between 0 and %s", name, d, longest)
		}
	}
	switch {
	case s.Rate < 0.1 || s.Rate > 10000:
		return fmt.Errorf("rate %v is not between 0.1 and 10000", s.Rate)
	case s.Port < 0 || s.Port > 65535:
		return fmt.Errorf("port %d is not between 1 and 65535", s.Port)
	case !strings.HasPrefix(s.Path, "/"):
		return fmt.Errorf("path %q does not begin with /", s.Path)
	case time.Duration(s.Period) < time.Second:
		return fmt.Errorf("period %s is shorter than 1s", s.Period)
	case s.Scenario == ScenarioFlap && s.Duration < 2*s.Period:
		return fmt.Errorf("duration %s is shorter than two periods of %s", s.Duration, s.Period)
	}
	return s.Objectives.validate()
}

func (w Wants) validate() error {
	for name, share := range map[string]*float64{"maxErrorRate": w.MaxErrorRate, "maxWrongShare": w.MaxWrongShare} {
		if share != nil && (*share < 0 || *share > 1) {
			return fmt.Errorf("objectives.%s %v is not between 0 and 1", name, *share)
		}
	}
	for name, d := range map[string]*Duration{"maxRecovery": w.MaxRecovery, "maxFailBack": w.MaxFailBack, "maxP99": w.MaxP99} {
		if d != nil && *d < 0 {
			return fmt.Errorf("objectives.%s %s is negative", name, *d)
		}
	}
	if w.MaxErrors != nil && *w.MaxErrors < 0 {
		return fmt.Errorf("objectives.maxErrors %d is negative", *w.MaxErrors)
	}
	return nil
}

// Default objectives. How much the delay of slow may cost a request: one round trip for it, and three for
// a new connection (TCP, TLS) that it may have to wait for.
const (
	cleanAfter  = 2 * time.Second
	failBack    = time.Minute
	slowTrips   = 4
	slowSurplus = time.Second
)

// Judged returns the objectives of the scenario, with those set that s asks for. Who answers is
// for the caller to fill.
func (s Spec) Judged() Objectives {
	o := Objectives{ErrorRate: 1, FailBack: failBack}
	none := func() { o.Errors = new(0) }
	switch s.Scenario {
	case ScenarioLocalEndpoints, ScenarioGatewayRefuse:
		none()
	case ScenarioGatewayDrop, ScenarioWholeCluster:
		o.Clean = cleanAfter
	case ScenarioAPIServer, ScenarioControlPlane:
		none()
		o.Same = true
		o.WrongShare = new(0.0)
	case ScenarioFlap:
		if s.Mode == ModeDrop {
			o.Clean = cleanAfter
		} else {
			none()
		}
	case ScenarioSlow:
		none()
		o.P99 = slowTrips*time.Duration(s.Delay) + slowSurplus
	}
	return s.Objectives.over(o)
}

// over returns o with what w sets. Whoever names a number of errors, or a rate, means that in
// place of the other.
func (w Wants) over(o Objectives) Objectives {
	if w.MaxErrorRate != nil {
		o.Errors, o.ErrorRate = nil, *w.MaxErrorRate
	}
	if w.MaxErrors != nil {
		o.Errors = w.MaxErrors
	}
	setTo(&o.Clean, w.MaxRecovery)
	setTo(&o.FailBack, w.MaxFailBack)
	setTo(&o.P99, w.MaxP99)
	if w.MaxRecovery != nil && w.MaxErrors == nil && w.MaxErrorRate == nil {
		o.Errors = nil // what fails before that is then allowed
	}
	if w.MaxWrongShare != nil {
		o.WrongShare = w.MaxWrongShare
	}
	return o
}

func setTo(to *time.Duration, from *Duration) {
	if from != nil {
		*to = time.Duration(*from)
	}
}
