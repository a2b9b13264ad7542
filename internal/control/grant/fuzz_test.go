package grant

import "testing"

// A document that is read is written as one that reads the same.
func FuzzRead(f *testing.F) {
	f.Add(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`)
	f.Add(`{ "Version" : "2012-10-17", "Id":"<i>", "Statement":[ {"Sid":"a", "Effect":"Deny","NotPrincipal":{"AWS":["111111111111"]},"Action":["a:b"],"Resource":"arn:a:b:c:d:e","Condition":{"Bool":{"k":[true,1]}}} ] }`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Read(text)
		if err != nil {
			return
		}
		again, err := Read(p.String())
		if err != nil || again.String() != p.String() || len(again.Documents()[0].Statements) != len(p.Statements) {
			t.Errorf("%s becomes %s, %v", text, p, err)
		}
		for _, s := range p.Documents()[0].Statements {
			if s.Sid != "" && p.index(s.Sid) < 0 {
				t.Errorf("statement %q is not found", s.Sid)
			}
		}
	})
}
