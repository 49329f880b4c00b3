"""The sovereignty report: what runs here, where the data lies, what was refused; signed and dated.

`report.sections` gathers the facts, `page.pdf` prints them, `sign.sealed` signs both, and
`shelf.Shelf` keeps the reports of this site in a chain, each with the digest of the one before.
"""
