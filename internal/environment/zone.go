package environment

import "strings"

// zoneID is the identifier of the one Availability Zone that a node is in, as
// AWS makes them: "euc1-az1" in eu-central-1, "usgw1-az1" in us-gov-west-1.
func zoneID(region string) string {
	var id strings.Builder
	for i, word := range strings.Split(region, "-") {
		switch {
		case i == 0:
			id.WriteString(word)
		case word == "":
		case strings.HasPrefix(word, "north") || strings.HasPrefix(word, "south"):
			id.WriteByte(word[0])
			if len(word) > len("north") {
				id.WriteByte(word[len("north")])
			}
		case '0' <= word[0] && word[0] <= '9':
			id.WriteString(word)
		default:
			id.WriteByte(word[0])
		}
	}
	return id.String() + "-az1"
}
