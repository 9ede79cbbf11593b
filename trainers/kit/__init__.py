"""What trainers share: arguments, folders, device choice, metrics, checkpoints, results, leaving politely.

Only the standard library is imported here, so that a trainer says its first word before numpy or a
framework has been loaded, and so that no trainer drags in what another one needs.
"""
