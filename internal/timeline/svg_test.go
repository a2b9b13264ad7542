package timeline

import "testing"

func TestSVGGolden(t *testing.T) {
	for name, in := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			golden(t, "testdata/"+name+".svg", string(SVG(Build(in))))
		})
	}
}
