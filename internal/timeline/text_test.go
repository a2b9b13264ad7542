package timeline

import "testing"

func TestTextGolden(t *testing.T) {
	for name, in := range scripts(t) {
		t.Run(name, func(t *testing.T) {
			golden(t, "testdata/"+name+".text", Text(Build(in), TextOptions{Width: 100}))
		})
	}
}
