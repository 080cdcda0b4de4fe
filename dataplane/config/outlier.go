package config

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// parseOutlier takes detection by local-origin failures only; whatever else
// would eject by Envoy's defaults has to be switched off.
func (c *Cluster) parseOutlier(m *clusterv3.Cluster) error {
	o := m.GetOutlierDetection()
	if o == nil {
		return nil
	}
	for _, off := range []struct {
		name   string
		value  *wrapperspb.UInt32Value
		absent uint32
	}{
		{"enforcing_consecutive_5xx", o.GetEnforcingConsecutive_5Xx(), 100},
		{"enforcing_consecutive_gateway_failure", o.GetEnforcingConsecutiveGatewayFailure(), 0},
		{"enforcing_success_rate", o.GetEnforcingSuccessRate(), 100},
		{"enforcing_local_origin_success_rate", o.GetEnforcingLocalOriginSuccessRate(), 100},
		{"enforcing_failure_percentage", o.GetEnforcingFailurePercentage(), 0},
		{"enforcing_failure_percentage_local_origin", o.GetEnforcingFailurePercentageLocalOrigin(), 0},
	} {
		if number(off.value, off.absent) != 0 {
			return unsupported("outlier_detection."+off.name, "anything but 0")
		}
	}
	if !o.GetSplitExternalLocalOriginErrors() {
		return unsupported("outlier_detection.split_external_local_origin_errors", "false")
	}
	out := &Outlier{
		ConsecutiveLocal: number(o.GetConsecutiveLocalOriginFailure(), 5),
		EnforceLocal:     min(number(o.GetEnforcingConsecutiveLocalOriginFailure(), 100), 100),
		MaxPercent:       min(number(o.GetMaxEjectionPercent(), 10), 100),
	}
	var err error
	if out.Interval, err = duration("outlier_detection.interval", o.GetInterval(), 10*time.Second); err != nil {
		return err
	}
	if out.BaseEjection, err = duration("outlier_detection.base_ejection_time", o.GetBaseEjectionTime(), 30*time.Second); err != nil {
		return err
	}
	out.MaxEjection, err = duration("outlier_detection.max_ejection_time", o.GetMaxEjectionTime(), max(300*time.Second, out.BaseEjection))
	c.Outlier = out
	return err
}
