package admin

import (
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/fault"
)

// noFaults is the answer of a proxy whose sockets are not ours, or that is no gateway.
const noFaults = "this proxy cannot break a listener: that takes a gateway with the built-in data plane"

// canBreak reports whether the proxy has faults, and says so where it has none.
func (o Options) canBreak(w http.ResponseWriter) bool {
	can := o.Faults != nil && o.Break != nil && o.Mend != nil
	if !can {
		http.Error(w, noFaults, http.StatusNotImplemented)
	}
	return can
}

func (o Options) showFaults(w http.ResponseWriter, _ *http.Request) {
	if o.canBreak(w) {
		writeJSON(w, o.Faults())
	}
}

// breakListener has ?listener=, or all of them, behave as ?mode= says for ?for= at most, counted anew each time that
// it is asked.
func (o Options) breakListener(w http.ResponseWriter, r *http.Request) {
	if !o.canBreak(w) {
		return
	}
	mode, err := fault.ParseMode(r.FormValue("mode"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	life, err := time.ParseDuration(r.FormValue("for"))
	if err != nil {
		http.Error(w, "for is a duration such as 10s", http.StatusBadRequest)
		return
	}
	if err := o.Break(r.FormValue("listener"), mode, life); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, o.Faults())
}

func (o Options) mendListener(w http.ResponseWriter, r *http.Request) {
	if !o.canBreak(w) {
		return
	}
	if err := o.Mend(r.FormValue("listener")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, o.Faults())
}
