package clusters

import (
	"fmt"
	"strings"

	"sigs.k8s.io/kind/pkg/log"

	"github.com/isthmus-mesh/isthmus/kind/progress"
)

// logger hands what kind says to users on as progress of one cluster.
type logger struct {
	name     string
	progress *progress.Printer
	silent   bool
}

func (l logger) Warn(message string)               { l.Info(message) }
func (l logger) Warnf(format string, args ...any)  { l.Infof(format, args...) }
func (l logger) Error(message string)              { l.Info(message) }
func (l logger) Errorf(format string, args ...any) { l.Infof(format, args...) }

// V keeps what is meant for users; kind's debugging goes nowhere.
func (l logger) V(level log.Level) log.InfoLogger {
	l.silent = level > 0
	return l
}

func (l logger) Enabled() bool                    { return !l.silent }
func (l logger) Infof(format string, args ...any) { l.Info(fmt.Sprintf(format, args...)) }

func (l logger) Info(message string) {
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		// kind says each step twice: when it begins and, ticked off, when it is done.
		if !l.silent && line != "" && !strings.HasPrefix(line, "•") && !strings.HasPrefix(line, "Creating cluster") {
			l.progress.Say(l.name, "%s", strings.TrimSpace(strings.TrimPrefix(line, "✓")))
		}
	}
}
