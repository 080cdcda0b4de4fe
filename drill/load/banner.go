package load

import "strings"

// Banner is the line by which a TCP sample says who it is. Empty fields become
// "-"; words hold no white space.
func (a Answer) Banner() string {
	words := []string{"echo", a.Service, a.Cluster, a.Pod, a.Version}
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\r\n") {
			words[i] = "-"
		}
	}
	return strings.Join(words, " ") + "\n"
}

// ParseBanner reads what Banner wrote, and whether line is such a banner.
func ParseBanner(line string) (Answer, bool) {
	words := strings.Fields(line)
	if len(words) != 5 || words[0] != "echo" {
		return Answer{}, false
	}
	for i, w := range words {
		if w == "-" {
			words[i] = ""
		}
	}
	return Answer{Service: words[1], Cluster: words[2], Pod: words[3], Version: words[4]}, true
}
