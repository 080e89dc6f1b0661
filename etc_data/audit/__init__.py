"""The audit: attacks on one's own encrypted images, with what each attacker would really hold.

`evidence` says what an attacker may hold, `attack` what an attack is and gives back, and `judgment`
compares that with the owner's truth.  Every other file is one attack, or one idea that attacks share.
"""
