package admin

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Dump is the answer of /config_dump: message type, then name, then resource.
type Dump map[string]map[string]json.RawMessage

// configDump prints the accepted resources. The queries type (such as Listener)
// and name choose among them.
func (o Options) configDump(w http.ResponseWriter, r *http.Request) {
	if o.State == nil {
		http.Error(w, "this proxy keeps no resources", http.StatusNotFound)
		return
	}
	kind, name := r.FormValue("type"), r.FormValue("name")
	dump := Dump{}
	state := o.State()
	for _, typeURL := range slices.Sorted(maps.Keys(state)) {
		short := typeURL[strings.LastIndexByte(typeURL, '.')+1:]
		if kind != "" && kind != short && kind != typeURL {
			continue
		}
		dump[short] = make(map[string]json.RawMessage)
		for n, m := range state[typeURL] {
			if name == "" || name == n {
				dump[short][n] = text(m)
			}
		}
	}
	writeJSON(w, dump)
}

// text returns m as JSON, or its error as a JSON string.
func text(m proto.Message) json.RawMessage {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		b, _ = json.Marshal("not printable: " + err.Error())
	}
	return b
}
